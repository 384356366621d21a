#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/frechet.h"
#include "nextscale/evaluate/intervals.h"

namespace nextscale {

/// How a Fréchet distance depends on the number of generated rows, the reference held as it is.
using FrechetProgress = std::function<void(int64_t done, int64_t all)>;  ///< in distances

struct FrechetAtInfinity {
  double value = 0;  ///< where the line meets 1/N = 0; may be below 0 where the sets are nearly equal
  double slope = 0;  ///< distance times rows: about slope/N of a distance of N rows is the rows' own
  std::vector<std::pair<int64_t, double>> points;  ///< N and the distance of N rows
};

struct FrechetAtInfinityOptions {
  int64_t points = 15;
  int64_t least = 0;  ///< rows of the first point; 0 = a tenth of all (5,000 of 50,000 in the paper)
};

/// Chong and Forsyth 2020 (arXiv 1911.07023): distances of random subsets without replacement, their sizes evenly
/// spaced from `least` to all rows, and the least-squares line of distance over 1/N. The reference's own bias stays.
/// @param generated (n, D), any floating type
/// @throws Error failure: points below 2; least below 2, or not below n; as frechet_distance()
FrechetAtInfinity frechet_at_infinity(const at::Tensor& generated, const FrechetReference& reference, uint64_t seed,
                                      const FrechetAtInfinityOptions& options = {},
                                      const FrechetProgress& progress = {});

/// 95 % interval of a distance over samples of so many generated rows: delete-a-group jackknife (intervals.h). It holds
/// the distance that n rows have on average, bias and all, and not that of endless rows.
/// @param value of all rows against the reference
/// @param generated (n, D); n up to D goes by rows, more by statistics of which each group is taken off
/// @throws Error failure: groups below 2, fewer than 2 rows without a group; as frechet_distance()
Interval frechet_interval(double value, const at::Tensor& generated, const FrechetReference& reference, uint64_t seed,
                          int64_t groups = 10, const FrechetProgress& progress = {});

}  // namespace nextscale
