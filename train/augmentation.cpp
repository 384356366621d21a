#include "nextscale/train/augmentation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/reflection_pad2d.h>
#include <ATen/ops/stack.h>

namespace nextscale {
namespace {

constexpr double kShiftShare = 0.125;

int64_t rounded(double value, bool half_up) {
  return static_cast<int64_t>(half_up ? std::floor(value + 0.5) : std::nearbyint(value));
}

/// A draw in [0, 1) as a whole number in [0, count).
int64_t chosen(const torch::Tensor& draws, int64_t row, int64_t picture, int64_t count) {
  const auto drawn = static_cast<double>(draws[row][picture].item<float>());
  return std::min(count - 1, static_cast<int64_t>(std::floor(drawn * static_cast<double>(count))));
}

torch::Tensor shifted(const torch::Tensor& pictures, const torch::Tensor& draws, bool half_up) {
  const int64_t most_down = rounded(static_cast<double>(pictures.size(2)) * kShiftShare, half_up);
  const int64_t most_right = rounded(static_cast<double>(pictures.size(3)) * kShiftShare, half_up);
  std::vector<torch::Tensor> moved;
  for (int64_t i = 0; i < pictures.size(0); ++i) {
    const int64_t down = chosen(draws, 0, i, 2 * most_down + 1) - most_down;
    const int64_t right = chosen(draws, 1, i, 2 * most_right + 1) - most_right;
    // Negative padding cuts off: one operator, and its gradient is the opposite padding.
    moved.push_back(at::constant_pad_nd(pictures[i], {-right, right, -down, down}));
  }
  return at::stack(moved);
}

torch::Tensor recoloured(torch::Tensor x, const torch::Tensor& draws) {
  const auto factor = [&](int64_t row) { return draws[row].to(x.device(), x.scalar_type()).view({-1, 1, 1, 1}); };
  x = x + (factor(2) - 0.5);
  const auto grey = x.mean({1}, /*keepdim=*/true);  // (B, 1, H, W)
  x = (x - grey) * (factor(3) * 2) + grey;
  const auto level = x.mean({1, 2, 3}, /*keepdim=*/true);  // (B, 1, 1, 1)
  return (x - level) * (factor(4) + 0.5) + level;
}

/// Places of a side that a cut-out leaves out; its centre may lie anywhere, so that it may hang over the edge.
struct Cut {
  int64_t begin, end;
};
Cut cut(int64_t side, int64_t length, int64_t centre) {
  // An edge that is hung over is cut by at least its outermost line: places are clamped, not dropped.
  const int64_t first = std::clamp<int64_t>(centre - length / 2, 0, side - 1);
  const int64_t last = std::clamp<int64_t>(centre - length / 2 + length - 1, 0, side - 1);
  return {first, last + 1};
}

torch::Tensor with_cutout(const torch::Tensor& pictures, const torch::Tensor& draws,
                          const AugmentationOptions& options) {
  const int64_t height = pictures.size(2), width = pictures.size(3);
  const int64_t high = rounded(static_cast<double>(height) * options.cutout_share, options.rounds_half_up);
  const int64_t wide = rounded(static_cast<double>(width) * options.cutout_share, options.rounds_half_up);
  if (high == 0 || wide == 0) return pictures;
  auto kept = at::ones({pictures.size(0), 1, height, width});
  for (int64_t i = 0; i < pictures.size(0); ++i) {
    const auto rows = cut(height, high, chosen(draws, 5, i, height + 1 - high % 2));
    const auto columns = cut(width, wide, chosen(draws, 6, i, width + 1 - wide % 2));
    kept[i][0].slice(0, rows.begin, rows.end).slice(1, columns.begin, columns.end).zero_();
  }
  return pictures * kept.to(pictures.device(), pictures.scalar_type());
}

}  // namespace

torch::Tensor draw_augmentation(int64_t batch, at::Generator& generator) {
  return at::rand({kAugmentationDraws, batch}, generator);
}

torch::Tensor augmented(const torch::Tensor& pictures, const torch::Tensor& draws, const AugmentationOptions& options) {
  auto x = pictures;
  if (options.translation) x = shifted(x, draws, options.rounds_half_up);
  if (options.colour) x = recoloured(x, draws);
  if (options.cutout) x = with_cutout(x, draws, options);
  return x;
}

torch::Tensor blurred(const torch::Tensor& pictures, double strength) {
  const double deviation = std::sqrt(static_cast<double>(pictures.size(2)) / 2) * strength;
  const auto radius = static_cast<int64_t>(std::floor(3 * deviation));
  if (radius < 1) return pictures;
  const auto places = at::arange(-radius, radius + 1, pictures.options().dtype(at::kDouble).requires_grad(false));
  auto kernel = (places / deviation).square().neg().exp2();
  kernel = (kernel / kernel.sum()).to(pictures.scalar_type());
  const auto padded = at::reflection_pad2d(pictures, {radius, radius, radius, radius});
  const auto each = padded.reshape({-1, 1, padded.size(2), padded.size(3)});  // (B * C, 1, H + 2 radius, W + 2 radius)
  const auto down = at::conv2d(each, kernel.view({1, 1, -1, 1}));
  return at::conv2d(down, kernel.view({1, 1, 1, -1})).view(pictures.sizes());
}

}  // namespace nextscale
