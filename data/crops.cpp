#include "nextscale/data/crops.h"

#include <cmath>
#include <vector>

#include <ATen/core/TensorBody.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/randint.h>

#include "nextscale/data/resample_kernels.h"

namespace nextscale {
namespace {

// Of one output value, cut toward zero after adding a half, so rounded.
std::vector<int32_t> fixed_point(const std::vector<double>& weights) {
  std::vector<int32_t> fixed;
  for (const double w : weights) {
    const double scaled = w * (1 << kernels::kFractionBits);
    fixed.push_back(static_cast<int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
  }
  return fixed;
}

at::Tensor resample_height(const at::Tensor& picture, int64_t height, Filter filter) {
  const int64_t stride = picture.size(1) * picture.size(2);
  const auto weights = resample_weights(picture.size(0), height, filter);
  auto result = at::empty({height, picture.size(1), picture.size(2)}, picture.options());
  const auto* in = picture.const_data_ptr<uint8_t>();
  auto* out = result.mutable_data_ptr<uint8_t>();
  for (size_t y = 0; y < weights.first.size(); ++y, out += stride) {
    const auto row = fixed_point(weights.weight[y]);
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
at::Tensor resample_width(const at::Tensor& picture, int64_t width, Filter filter) {
  return transposed(resample_height(transposed(picture), width, filter));
}

at::Tensor resized(const at::Tensor& picture, int64_t height, int64_t width, Filter filter) {
  TORCH_CHECK(picture.scalar_type() == at::kByte && picture.dim() == 3 && height > 0 && width > 0, "uint8 (H, W, C)");
  TORCH_CHECK(picture.size(2) == 1 || picture.size(2) == 3, "1 or 3 channels");
  auto result = picture.contiguous();
  if (width != picture.size(1)) result = resample_width(result, width, filter);
  if (height != picture.size(0)) result = resample_height(result, height, filter);
  return result;
}

}  // namespace

at::Tensor resize_lanczos(const at::Tensor& picture, int64_t height, int64_t width) {
  return resized(picture, height, width, Filter::lanczos);
}

at::Tensor resize_bicubic(const at::Tensor& picture, int64_t height, int64_t width) {
  return resized(picture, height, width, Filter::bicubic);
}

at::Tensor resize_shorter_side(const at::Tensor& picture, int64_t length, Filter filter) {
  const int64_t height = picture.size(0), width = picture.size(1);
  const auto longer = [&](int64_t of, int64_t shorter) {
    return static_cast<int64_t>(static_cast<double>(length * of) / static_cast<double>(shorter));
  };
  return width <= height ? resized(picture, longer(height, width), length, filter)
                         : resized(picture, length, longer(width, height), filter);
}

at::Tensor center_square(const at::Tensor& picture, int64_t length, int64_t side, Filter filter) {
  const auto shorter = resize_shorter_side(picture, length, filter);
  return crop(shorter, center_offsets(shorter.size(0), shorter.size(1), side), side);
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
