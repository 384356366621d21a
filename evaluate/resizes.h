#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

/// The three ways in which evaluators bring a picture to the network's size. They are not the same: an FID changes by
/// up to several units with another one. Plain loops of one thread, so that many pictures are resized side by side.
namespace nextscale {

/// TensorFlow 1's bilinear (as ADM's graph and torch-fidelity do it): source = i * in / out without half pixels, the
/// right and lower neighbour clamped, rows first, all in float32 without fused multiply-add.
/// @param picture (H, W, 3) uint8
/// @param out     side * side * 3 values in 0 … 255, row by row, channels last
void resize_as_tensorflow(const at::Tensor& picture, int64_t side, float* out);

/// Pillow's BICUBIC on float channels (mode F; clean-fid): a = -0.5, antialiased when shrinking, weights and sums in
/// double, float32 between the passes, clipped to 0 … 255 and not rounded.
void resize_as_pillow(const at::Tensor& picture, int64_t side, float* out);

/// LibTorch's bilinear with half pixels and without antialiasing (pytorch-fid).
/// @param pictures (B, 3, H, W) float32
/// @returns (B, 3, side, side)
at::Tensor resize_half_pixel(const at::Tensor& pictures, int64_t side);

}  // namespace nextscale
