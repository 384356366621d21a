#include "nextscale/evaluate/token_stability.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/bytes.h"

namespace nextscale {
namespace {

constexpr double kStep = 2.0 / 255;  // of 8-bit pictures, in [-1, 1]

}  // namespace

at::Tensor with_noise(const at::Tensor& pictures, double steps, const std::vector<uint64_t>& seeds) {
  std::vector<at::Tensor> noise;
  for (const uint64_t seed : seeds) {
    auto generator = make_generator(seed);
    noise.push_back(at::randn(pictures.sizes().slice(1), generator));
  }
  return (pictures + at::stack(noise).to(pictures.device()) * (steps * kStep)).clamp(-1, 1);
}

at::Tensor shifted_right(const at::Tensor& pictures) {
  return at::cat({pictures.narrow(3, 0, 1), pictures.narrow(3, 0, pictures.size(3) - 1)}, 3);
}

at::Tensor through_jpeg(const at::Tensor& pictures, int64_t quality) {
  std::vector<at::Tensor> read;
  for (const auto& picture : bytes_from_network_range(pictures).unbind()) {  // (H, W, C)
    const auto file = encode_jpeg(picture, quality);
    read.push_back(decode_picture(as_bytes(file), picture.size(2), "JPEG of a picture").permute({2, 0, 1}));
  }
  return to_network_range(at::stack(read)).to(pictures.device());
}

TokenStability::TokenStability(const Scales& scales, const StabilityOptions& options, uint64_t seed)
    : scales_(scales), options_(options), seed_(seed) {}

at::Tensor TokenStability::changed_per_scale(const at::Tensor& tokens, const at::Tensor& others) const {
  const auto changed = tokens.ne(others).to(at::kCPU, at::kLong);  // (B, L)
  std::vector<at::Tensor> sums;
  for (int64_t k = 0; k < scales_.count(); ++k) {
    sums.push_back(changed.narrow(1, scales_.begin(k), scales_.area(k)).sum(1));
  }
  return at::stack(sums, 1);
}

void TokenStability::add(Tokenizer& tokenizer, const at::Tensor& pictures, const at::Tensor& tokens,
                         const std::vector<int64_t>& indices) {
  const at::NoGradGuard no_grad;
  std::vector<uint64_t> seeds;
  for (const int64_t index : indices) seeds.push_back(derived_seed(seed_, static_cast<uint64_t>(index)));
  const std::array disturbed = {with_noise(pictures, options_.noise, seeds), shifted_right(pictures),
                                through_jpeg(pictures, options_.jpeg_quality)};
  for (size_t i = 0; i < disturbed.size(); ++i) {
    // In the same memory order: convolutions of another one round otherwise, which moves tokens too.
    const auto others = tokenizer->encode(disturbed[i].contiguous(pictures.suggest_memory_format()));
    changed_[i].push_back(changed_per_scale(tokens, others));
  }
  pictures_ += pictures.size(0);
}

ChangedTokens TokenStability::sum(const at::Tensor& changed, int64_t tokens_each) const {
  ChangedTokens found{
      .changed = changed.sum().item<int64_t>(), .tokens = pictures_ * tokens_each, .interval = std::nullopt};
  if (pictures_ < 2) return found;
  const auto shares = changed.to(at::kDouble) / static_cast<double>(tokens_each);  // (N)
  const std::vector<double> of_pictures(shares.const_data_ptr<double>(), shares.const_data_ptr<double>() + pictures_);
  auto interval = parts_interval(found.share(), of_pictures);
  if (interval.high - interval.low < 1e-9) {  // all pictures say the same; that is no certainty
    interval = share_interval(std::llround(found.share() * static_cast<double>(pictures_)), pictures_);
  }
  found.interval = Interval{std::max(interval.low, 0.0), std::min(interval.high, 1.0)};
  return found;
}

std::vector<Disturbance> TokenStability::disturbances() const {
  std::vector<Disturbance> all = {
      {.name = "noise", .what = fmt::format("Gaussian noise of {:g} steps of 255", options_.noise)},
      {.name = "shift", .what = "one pixel to the right, the edge repeated"},
      {.name = "jpeg", .what = fmt::format("JPEG of quality {}", options_.jpeg_quality)}};
  for (size_t i = 0; i < all.size() && pictures_ > 0; ++i) {
    const auto changed = at::cat(changed_[i]);  // (N, K)
    for (int64_t k = 0; k < scales_.count(); ++k) {
      all[i].scales.push_back(sum(changed.select(1, k).contiguous(), scales_.area(k)));
    }
    all[i].all = sum(changed.sum(1), scales_.length());
  }
  return all;
}

}  // namespace nextscale
