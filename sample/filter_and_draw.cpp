#include "nextscale/sample/filter_and_draw.h"

#include <algorithm>
#include <limits>

#include <ATen/ATen.h>

namespace nextscale {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// Exponential draws of the generator's stream, wherever they are needed.
at::Tensor exponential_like(const at::Tensor& shape, at::Generator& generator) {
  const auto noise = at::empty(shape.sizes(), shape.options().device(generator.device())).exponential_(1, generator);
  return noise.to(shape.device());
}

at::Tensor keep_top_k(const at::Tensor& logits, int64_t k) {
  const auto largest = std::get<0>(logits.topk(std::min(k, logits.size(-1)), -1, /*largest=*/true, /*sorted=*/false));
  return logits.masked_fill(logits < largest.amin(-1, /*keepdim=*/true), kMinusInfinity);
}

at::Tensor keep_top_p(const at::Tensor& logits, double p) {
  const auto [ascending, order] = logits.sort(-1, /*descending=*/false);
  auto removed = ascending.softmax(-1).cumsum_(-1) <= (1 - p);  // (.., V) by rank
  removed.narrow(-1, removed.size(-1) - 1, 1).fill_(false);
  return logits.masked_fill(removed.scatter(-1, order, removed), kMinusInfinity);
}

}  // namespace

at::Tensor filter_logits(const at::Tensor& logits, int64_t top_k, double top_p) {
  auto kept = top_k > 0 ? keep_top_k(logits, top_k) : logits;
  return top_p > 0 ? keep_top_p(kept, top_p) : kept;
}

at::Tensor draw_tokens(const at::Tensor& logits, at::Generator& generator) {
  const auto probabilities = logits.softmax(-1).reshape({-1, logits.size(-1)});  // (B * l, V)
  auto noise = exponential_like(probabilities, generator);
  return at::div_out(noise, probabilities, noise).argmax(-1).view({logits.size(0), logits.size(1)});
}

at::Tensor draw_mixture(const at::Tensor& logits, double ratio, at::Generator& generator) {
  const double temperature = std::max(0.27 * (1 - ratio * 0.95), 0.005);
  const auto gumbels = exponential_like(logits, generator).log_().neg_();
  return (logits.mul(1 + ratio) + gumbels).div_(temperature).softmax(-1);
}

at::Tensor draw_random_labels(int64_t count, int64_t classes, at::Generator& generator) {
  if (classes == 0) return at::full({count}, -1, at::kLong);
  const auto alike = at::full({1, classes}, 1.0 / static_cast<double>(classes), at::kFloat);
  // Not draw_tokens: for more than one draw a row the reference's multinomial goes another way.
  return at::multinomial(alike, count, /*replacement=*/true, generator).reshape({count});
}

}  // namespace nextscale
