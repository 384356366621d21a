#pragma once

#include <ATen/core/Tensor.h>

#include "nextscale/base/scales.h"

namespace nextscale {

/// Mean over the area of each cell (torch's interpolate mode "area"). (B, C, H, W) -> (B, C, height, width).
at::Tensor area_resize(const at::Tensor& x, const MapSize& to);
/// Bicubic, A = -0.75, corners not aligned (torch's mode "bicubic"). (B, C, H, W) -> (B, C, height, width).
at::Tensor bicubic_resize(const at::Tensor& x, const MapSize& to);

/// The same two as constant matrices (H W, height width): a flattened map times the matrix is the resized map. Small
/// maps spend most of an interpolation on overhead, its backward above all; one product does all maps of a batch.
at::Tensor area_matrix(const MapSize& from, const MapSize& to);
at::Tensor bicubic_matrix(const MapSize& from, const MapSize& to);

/// Maps up to this many positions are resized by matrices while training; above, interpolation's sixteen taps a
/// position are fewer than a matrix row.
inline constexpr int64_t kLargestMatrixMap = 256;

}  // namespace nextscale
