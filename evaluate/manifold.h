#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/intervals.h"
#include "nextscale/evaluate/pair_blocks.h"

namespace nextscale {

/// Whether a row on the very surface of a ball lies inside: closed is ADM's and torch-fidelity's, open is prdc's.
enum class Inside { closed, open };

struct ManifoldOptions {
  int64_t k = 3;  ///< a ball reaches to the row's k-th neighbour in its own set, itself not counted
  Inside inside = Inside::closed;
  bool half = false;     ///< ADM's arithmetic (half_manifold.h) instead of exact; then always closed
  int64_t block = 2048;  ///< rows of a side at a time; two blocks of rows and one of pairs stand in memory
};

/// Two sets as unions of balls (Kynkäänniemi et al. 2019; density and coverage: Naeem et al. 2020). All four move with
/// the numbers of rows: compare only at equal counts.
struct Manifold {
  double precision = 0;  ///< share of generated rows inside some reference ball
  double recall = 0;     ///< share of reference rows inside some generated ball
  double density = 0;    ///< reference balls a generated row lies in, over k, on average; may exceed 1
  double coverage = 0;   ///< share of reference balls with a generated row inside
  int64_t precision_count = 0, recall_count = 0, coverage_count = 0;
  int64_t balls = 0;  ///< generated rows inside reference balls, all pairs: density · k · generated rows
};

/// Exact: radii and every pair near a radius come from differences in float64 (pair_blocks.h), so ties and equal rows
/// count as they should; blocks, threads and device do not show. Memory beyond the rows grows with n·k and block².
/// @param generated (n, D), @param reference (m, D), any floating type and device
/// @throws Error failure: k outside 1 … n - 1 or m - 1, different D, values that are not finite
Manifold compare_manifolds(const at::Tensor& generated, const at::Tensor& reference,
                           const ManifoldOptions& options = {}, const PairProgress& progress = {});

struct ManifoldIntervals {
  Manifold value;
  Interval precision, recall, density, coverage;
};

/// The same with 95 % intervals over samples of the generated set, the reference held as it is: delete-a-group
/// jackknife (intervals.h), whose balls are known from a few more neighbours, so that no pass is added. Shares stay
/// within 0 … 1. Precision and density are means over generated rows. Recall and coverage are not, and parts of the set
/// would spread too little (measured: 36 % of such intervals held the coverage); without a tenth of the rows they move
/// as they should.
/// @param groups 2 … 64, which leave more than k rows when one is left out
/// @throws Error failure as compare_manifolds; groups outside that
ManifoldIntervals manifold_intervals(const at::Tensor& generated, const at::Tensor& reference,
                                     const ManifoldOptions& options, uint64_t seed, int64_t groups = 10,
                                     const PairProgress& progress = {});

}  // namespace nextscale
