#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/intervals.h"

namespace nextscale {

/// Which set's rows are drawn first for a subset: torch-fidelity draws from the first set, clean-fid from the second.
enum class KernelDraws { first_then_second, second_then_first };

struct KernelDistanceOptions {
  int64_t subsets = 100;
  int64_t subset_size = 1000;  ///< rows of each set; second_then_first takes fewer where a set has fewer
  uint32_t seed = 2020;        ///< of numpy's RandomState
  KernelDraws draws = KernelDraws::first_then_second;
};

/// KID (Bińkowski et al. 2018): squared maximum mean discrepancy under the kernel (x·y/D + 1)³, without bias, so that
/// two samples of one distribution give 0 on average and often less than 0. Not comparable with values that leave the
/// diagonal in.
struct KernelDistance {
  double value = 0;      ///< mean over subsets
  double deviation = 0;  ///< of the subsets, divided by their number (numpy's std)
  int64_t subsets = 0, subset_size = 0;
};

/// Rows of one subset of each set, drawn without replacement.
struct KernelSubset {
  std::vector<int64_t> first, second;
};

/// The subsets that `options` draw from sets of n and m rows, one numpy stream for all.
/// @throws Error failure: subsets or subset_size below 1 and 2, a set with fewer rows than first_then_second asks for
std::vector<KernelSubset> kernel_subsets(int64_t n, int64_t m, const KernelDistanceOptions& options);

/// Mean over subsets, in float64 (the tools' float32 kernels are worth about 1e-6 relative).
/// @param first (n, D), @param second (m, D), any floating type and device
/// @throws Error failure as kernel_subsets; different D, values that are not finite
KernelDistance kernel_distance(const at::Tensor& first, const at::Tensor& second,
                               const KernelDistanceOptions& options = {},
                               const std::function<void(int64_t done, int64_t all)>& on_subset = {});

/// The same estimate from all rows of both sets, block by block: no draws, less spread.
/// @throws Error failure: fewer than two rows on a side, different D, values that are not finite
double kernel_distance_whole(const at::Tensor& first, const at::Tensor& second);

/// 95 % interval of `found`, both sets taken as samples: spread over disjoint parts of both sets (the estimate has no
/// bias at any size), and the subsets' own noise, at most deviation/√subsets. Wider than needed where the sets are
/// nearly equal, because parts then spread more than in proportion.
/// @param found kernel_distance(first, second), or {.value = kernel_distance_whole(first, second)}
/// @throws Error failure: fewer than 2 rows in a part of a set
Interval kernel_distance_interval(const at::Tensor& first, const at::Tensor& second, const KernelDistance& found,
                                  uint64_t seed, int64_t parts = 10);

}  // namespace nextscale
