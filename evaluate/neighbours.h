#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/pair_blocks.h"

namespace nextscale {

struct Neighbours {
  at::Tensor distances;  ///< (n, k) float64, Euclidean, ascending
  at::Tensor indices;    ///< (n, k) int64, rows of the references; the lower one of equal distances first
};

/// The k nearest references of each query, exactly, block by block: memory beyond the rows grows with n·k and block².
/// Distances come from the differences (pair_blocks.h), so that a copy has distance 0 and not the rounding of a
/// cancellation.
/// @param queries (n, D), @param references (m, D), any floating type and device
/// @param block rows of a side at a time
/// @throws Error failure: different D, k outside 1 … m, values that are not finite
Neighbours nearest_neighbours(const at::Tensor& queries, const at::Tensor& references, int64_t k, int64_t block = 2048,
                              const PairProgress& progress = {});

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

/// The same picture by picture, with the second view that needs no scale: a copy is much nearer to one training picture
/// than to the next (d1/d2 near 0), a new picture about as near to several (near 1). Ratios miss pictures that stand in
/// the training set twice; distances do not.
struct MemorisationReport {
  Memorisation distances;
  at::Tensor nearest;          ///< (n, 2) float64: distances of each sample to its two nearest training pictures
  at::Tensor indices;          ///< (n, 2) int64: which
  at::Tensor ratios;           ///< (n) float64: d1/d2; 0 where both are 0
  at::Tensor held_out_ratios;  ///< the same of held-out pictures: the baseline
  double median_ratio = 0, held_out_median_ratio = 0;
  double ratio_share = 0, held_out_ratio_share = 0;  ///< with a ratio below `ratio_below`
  at::Tensor suspicious;  ///< (n) int64: all samples, lowest ratio first, the nearer first among equal ones
};

struct MemorisationOptions {
  double fraction = 0.25;        ///< as in memorisation()
  double ratio_below = 1.0 / 3;  ///< Yoon et al. 2023 call a sample with a lower ratio memorised
};

/// @param training (m, D) with m at least 2
/// @throws Error failure if a set is empty, training has one row, or they differ in D
MemorisationReport memorisation_report(const at::Tensor& samples, const at::Tensor& training,
                                       const at::Tensor& held_out, const MemorisationOptions& options = {},
                                       const PairProgress& progress = {});

/// The same where no held-out pictures are at hand: the baseline is how near training pictures come to each other, of
/// up to `most` training pictures chosen by the seed, each against all but itself.
/// @param training (m, D) with m at least 3
MemorisationReport memorisation_report_within(const at::Tensor& samples, const at::Tensor& training, uint64_t seed,
                                              int64_t most = 2000, const MemorisationOptions& options = {},
                                              const PairProgress& progress = {});

}  // namespace nextscale
