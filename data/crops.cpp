#include "nextscale/data/crops.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include <ATen/core/TensorBody.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/randint.h>

#include "nextscale/data/resample_kernels.h"

namespace nextscale {
namespace {

constexpr double kLobes = 3.0;

double sinc(double x) {
  if (x == 0.0) return 1.0;
  const double t = x * std::numbers::pi;
  return std::sin(t) / t;
}

double lanczos(double x) { return x >= -kLobes && x < kLobes ? sinc(x) * sinc(x / kLobes) : 0.0; }

// Which input values make output value i, and with which fixed-point weights.
struct Weights {
  std::vector<int64_t> first;                // by output value
  std::vector<std::vector<int32_t>> weight;  // by output value
};

Weights lanczos_weights(int64_t input, int64_t output) {
  const double scale = static_cast<double>(input) / static_cast<double>(output);
  const double stretch = std::max(scale, 1.0);  // shrinking widens the filter
  const double support = kLobes * stretch;
  const double inverse = 1.0 / stretch;
  Weights weights;
  for (int64_t i = 0; i < output; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const auto last = std::min(input, static_cast<int64_t>(center + support + 0.5));
    std::vector<double> exact;
    double sum = 0.0;
    for (int64_t x = first; x < last; ++x) {
      exact.push_back(lanczos((static_cast<double>(x) - center + 0.5) * inverse));
      sum += exact.back();
    }
    std::vector<int32_t> fixed;
    for (double w : exact) {
      if (sum != 0.0) w /= sum;
      const double scaled = w * (1 << kernels::kFractionBits);
      fixed.push_back(static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));  // cut toward zero, so rounds
    }
    weights.first.push_back(first);
    weights.weight.push_back(std::move(fixed));
  }
  return weights;
}

at::Tensor resample_height(const at::Tensor& picture, int64_t height) {
  const int64_t stride = picture.size(1) * picture.size(2);
  const auto weights = lanczos_weights(picture.size(0), height);
  auto result = at::empty({height, picture.size(1), picture.size(2)}, picture.options());
  const auto* in = picture.const_data_ptr<uint8_t>();
  auto* out = result.mutable_data_ptr<uint8_t>();
  for (size_t y = 0; y < weights.first.size(); ++y, out += stride) {
    const auto& row = weights.weight[y];
    kernels::weighted_rows(in + weights.first[y] * stride, stride, row.data(), static_cast<int64_t>(row.size()), out,
                           stride);
  }
  return result;
}

at::Tensor transposed(const at::Tensor& picture) {
  const int64_t height = picture.size(0), width = picture.size(1), channels = picture.size(2);
  auto result = at::empty({width, height, channels}, picture.options());
  kernels::transpose_pixels(picture.const_data_ptr<uint8_t>(), result.mutable_data_ptr<uint8_t>(), height, width,
                            channels);
  return result;
}

// Whole rows are summed faster than single pixels of three values.
at::Tensor resample_width(const at::Tensor& picture, int64_t width) {
  return transposed(resample_height(transposed(picture), width));
}

}  // namespace

at::Tensor resize_lanczos(const at::Tensor& picture, int64_t height, int64_t width) {
  TORCH_CHECK(picture.scalar_type() == at::kByte && picture.dim() == 3 && height > 0 && width > 0, "uint8 (H, W, C)");
  TORCH_CHECK(picture.size(2) == 1 || picture.size(2) == 3, "1 or 3 channels");
  auto result = picture.contiguous();
  if (width != picture.size(1)) result = resample_width(result, width);
  if (height != picture.size(0)) result = resample_height(result, height);
  return result;
}

at::Tensor resize_shorter_side(const at::Tensor& picture, int64_t length) {
  const int64_t height = picture.size(0), width = picture.size(1);
  const auto longer = [&](int64_t of, int64_t shorter) {
    return static_cast<int64_t>(static_cast<double>(length * of) / static_cast<double>(shorter));
  };
  return width <= height ? resize_lanczos(picture, longer(height, width), length)
                         : resize_lanczos(picture, length, longer(width, height));
}

int64_t mid_length(double mid_reso, int64_t side) {
  return static_cast<int64_t>(std::nearbyint(mid_reso * static_cast<double>(side)));
}

at::Tensor crop(const at::Tensor& picture, const CropOffsets& offsets, int64_t side) {
  return picture.narrow(0, offsets.top, side).narrow(1, offsets.left, side);
}

CropOffsets center_offsets(int64_t height, int64_t width, int64_t side) {
  const auto center = [&](int64_t length) {
    return static_cast<int64_t>(std::nearbyint(static_cast<double>(length - side) / 2.0));
  };
  return {center(height), center(width)};
}

CropOffsets random_offsets(int64_t height, int64_t width, int64_t side, at::Generator& generator) {
  if (height == side && width == side) return {};
  const auto draw = [&](int64_t length) {
    return at::randint(0, length - side + 1, {1}, generator, at::TensorOptions(at::kLong)).item<int64_t>();
  };
  const auto top = draw(height);
  return {top, draw(width)};
}

at::Tensor mirrored(const at::Tensor& picture) { return picture.flip(1); }

}  // namespace nextscale
