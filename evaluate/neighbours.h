#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

struct Neighbours {
  at::Tensor distances;  ///< (n, k) float64, Euclidean, ascending
  at::Tensor indices;    ///< (n, k) int64, rows of the references
};

/// The k nearest references of each query, exactly, block by block: memory grows with n·k and the block, not with n·m.
/// Candidates come from |q|^2 - 2 q·r + |r|^2 in float64 about the references' mean; their distances are then taken
/// from the differences, so that a copy has distance 0 and not the rounding of a cancellation.
/// @param queries (n, D), @param references (m, D), any floating type
/// @param block references at a time
/// @throws Error failure: different D, k outside 1 … m, values that are not finite
Neighbours nearest_neighbours(const at::Tensor& queries, const at::Tensor& references, int64_t k, int64_t block = 8192);

/// Do samples sit on training pictures? Distance of each sample to its nearest training picture, against the median of
/// that distance for held-out pictures, which is how near two different pictures come by themselves.
struct Memorisation {
  double held_out_median = 0;  ///< median distance of held-out pictures to the nearest training picture
  double sample_median = 0;
  double share = 0;           ///< samples nearer than `fraction` of held_out_median
  double held_out_share = 0;  ///< held-out pictures nearer than that: what `share` is without any memorising
};

/// @param samples, training, held_out feature rows (n, D)
/// @throws Error failure if one of them is empty or they differ in D
Memorisation memorisation(const at::Tensor& samples, const at::Tensor& training, const at::Tensor& held_out,
                          double fraction = 0.25);

}  // namespace nextscale
