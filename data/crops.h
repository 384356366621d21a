#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "nextscale/data/resample_weights.h"

namespace nextscale {

struct CropOffsets {
  int64_t top = 0, left = 0;
  bool operator==(const CropOffsets&) const = default;
};

/// The reference's resampling (Pillow's LANCZOS on 8-bit pictures), bit for bit: horizontally, then vertically, weights
/// in 22-bit fixed point, clipped to 8 bit after each pass. Antialiased when shrinking. (Pillow 13 goes vertically
/// first where the height shrinks much more than the width: other pixels than before, and than here.)
/// @param picture (H, W, C) uint8
/// @returns (height, width, C) uint8; the picture itself if it has that size
at::Tensor resize_lanczos(const at::Tensor& picture, int64_t height, int64_t width);
/// The same with Pillow's BICUBIC.
at::Tensor resize_bicubic(const at::Tensor& picture, int64_t height, int64_t width);
/// Shorter side to `length`, the longer to int(length * long / short) (torchvision's Resize).
at::Tensor resize_shorter_side(const at::Tensor& picture, int64_t length, Filter filter = Filter::lanczos);
/// The middle (side, side, C) of the picture with its shorter side at `length`: what classifiers of photographs eat.
/// @throws c10::Error if side > length
at::Tensor center_square(const at::Tensor& picture, int64_t length, int64_t side, Filter filter);
/// round(mid_reso * side), halves to even: the shorter side before the crop (reference utils/data.py).
int64_t mid_length(double mid_reso, int64_t side);

/// (side, side, C) view. @throws c10::Error if it is not inside
at::Tensor crop(const at::Tensor& picture, const CropOffsets& offsets, int64_t side);
/// Offsets round((H - side) / 2), halves to even (torchvision's CenterCrop).
CropOffsets center_offsets(int64_t height, int64_t width, int64_t side);
/// The draws of torchvision's RandomCrop: top, then left; none where the picture has the size already.
CropOffsets random_offsets(int64_t height, int64_t width, int64_t side, at::Generator& generator);
/// Left to right.
at::Tensor mirrored(const at::Tensor& picture);

}  // namespace nextscale
