#pragma once

#include <vector>

#include <torch/types.h>

#include "nextscale/base/scales.h"

namespace nextscale {

/// What validation of a tokenizer shows: a row a picture, with the input, its reconstruction, and the picture after
/// each scale but the last (which is the reconstruction).
/// @param inputs      (N, C, H, W) in [-1, 1], C 1 or 3
/// @param after_scale K tensors (N, C, H, W) in [-1, 1]
/// @returns (height, width, 3) uint8
torch::Tensor reconstruction_grid(const torch::Tensor& inputs, const std::vector<torch::Tensor>& after_scale,
                                  const Scales& scales);

}  // namespace nextscale
