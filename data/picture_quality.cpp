#include "nextscale/data/picture_quality.h"

#include <array>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/stack.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr double kLargestPsnr = 100;  // dB
constexpr double kSigma = 1.5, kK1 = 0.01, kK2 = 0.03, kSpan = 255;

void require_one_shape(const char* where, const at::Tensor& pictures, const at::Tensor& others) {
  if (pictures.sizes() == others.sizes()) return;
  throw failure({where, "pictures of different shapes", shape_text(pictures.sizes()), shape_text(others.sizes())});
}

std::array<double, kSsimSide> gaussian() {
  std::array<double, kSsimSide> weights{};
  double sum = 0;
  for (int64_t i = 0; i < kSsimSide; ++i) {
    const auto distance = static_cast<double>(i - kSsimSide / 2);
    sum += weights[static_cast<size_t>(i)] = std::exp(-distance * distance / (2 * kSigma * kSigma));
  }
  for (auto& weight : weights) weight /= sum;
  return weights;
}

/// Weighted means of all windows along one dimension, which gets shorter by 10.
at::Tensor windows(const at::Tensor& x, int64_t dim) {
  static const auto kWeights = gaussian();
  const int64_t length = x.size(dim) - kSsimSide + 1;
  auto sum = x.narrow(dim, 0, length) * kWeights[0];
  for (int64_t i = 1; i < kSsimSide; ++i) sum.add_(x.narrow(dim, i, length), kWeights[static_cast<size_t>(i)]);
  return sum;
}

/// (N, H, W, 3) -> (N, H, W, 1), by the formula: the fixed-point luma of decoders rounds some pixels otherwise,
/// which moves SSIM by 4e-5.
at::Tensor formula_luma(const at::Tensor& pictures) {
  const auto rgb = pictures.to(at::kDouble).unbind(3);
  return (rgb.at(0) * 0.299 + rgb.at(1) * 0.587 + rgb.at(2) * 0.114).round().unsqueeze(3);
}

}  // namespace

at::Tensor psnr(const at::Tensor& pictures, const at::Tensor& others, double span) {
  require_one_shape("PSNR", pictures, others);
  const auto wide = pictures.is_floating_point() ? pictures.scalar_type() : at::kDouble;
  const auto error = (pictures.to(wide) - others.to(wide)).square().flatten(1).mean(1).to(at::kDouble);  // (N)
  const double least = span * span * std::pow(10, -kLargestPsnr / 10);
  return at::log10(span * span / error.clamp_min(least)) * 10;
}

at::Tensor ssim_map(const at::Tensor& pictures, const at::Tensor& others) {
  require_one_shape("SSIM", pictures, others);
  if (pictures.dim() != 4 || pictures.size(1) < kSsimSide || pictures.size(2) < kSsimSide) {
    throw failure(
        {"SSIM", "needs whole windows", "(N, H, W, C) with sides of 11 or more", shape_text(pictures.sizes())});
  }
  const auto x = pictures.to(at::kDouble).permute({0, 3, 1, 2}).contiguous();  // (N, C, H, W)
  const auto y = others.to(at::kDouble).permute({0, 3, 1, 2}).contiguous();
  const auto means = windows(windows(at::stack({x, y, x * x, y * y, x * y}), 4), 3);  // (5, N, C, H - 10, W - 10)
  const auto mean_x = means[0], mean_y = means[1];
  const auto variance_x = means[2] - mean_x * mean_x, variance_y = means[3] - mean_y * mean_y;
  const auto covariance = means[4] - mean_x * mean_y;
  constexpr double kC1 = (kK1 * kSpan) * (kK1 * kSpan), kC2 = (kK2 * kSpan) * (kK2 * kSpan);
  return (mean_x * mean_y * 2 + kC1) * (covariance * 2 + kC2) /
         ((mean_x * mean_x + mean_y * mean_y + kC1) * (variance_x + variance_y + kC2));
}

at::Tensor ssim(const at::Tensor& pictures, const at::Tensor& others) {
  return ssim_map(pictures, others).flatten(1).mean(1);
}

at::Tensor ssim_of_luma(const at::Tensor& pictures, const at::Tensor& others) {
  return ssim(formula_luma(pictures), formula_luma(others));
}

}  // namespace nextscale
