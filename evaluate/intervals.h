#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// How far a metric would move if its rows were drawn again: 95 % intervals, in the metric's own units, around the
/// metric's expectation *at this number of rows* (a metric that is biased at N rows stays so).
struct Interval {
  double low = 0, high = 0;
};

/// The t for which a Student variable of that many degrees of freedom lies within -t … t with 95 %; from the
/// finite sums for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4).
/// @throws Error failure below 1
double student_t_95(int64_t degrees);

/// Delete-a-group jackknife (Quenouille; Kott 2001): value ± t·se, se² = (G-1)/G · Σ(without_g - their mean)².
/// @param without_group (G) the metric of all rows but those of group g
/// @throws Error failure for fewer than two groups, or values that are not finite
Interval jackknife_interval(double value, const std::vector<double>& without_group);

/// From disjoint parts of the set, each 1/G of it: value ± t·sd/√G, since a part's deviation is √G times the whole's.
/// Made for metrics that rows drawn twice would spoil (nearest neighbours): a bootstrap is wrong there.
/// @param of_parts (G) the metric of each part alone; its bias at N/G rows does not matter, only the spread does
/// @throws Error failure for fewer than two parts, or values that are not finite
Interval parts_interval(double value, const std::vector<double>& of_parts);

/// Percentile bootstrap of a mean.
/// @param values (n) any floating type
/// @throws Error failure unless n >= 2, resamples >= 40, values finite
Interval bootstrap_mean_interval(const at::Tensor& values, uint64_t seed, int64_t resamples = 1000);

/// Wilson's score interval (1927) of a share of independent yeses and noes. Also says something where all are the same,
/// as 0 of 500: a bootstrap would be sure then.
/// @throws Error failure unless 0 <= hits <= n, n >= 1
Interval share_interval(int64_t hits, int64_t n);

/// The 2.5th and 97.5th percentile, linear between neighbours (numpy's default).
Interval percentile_interval(std::vector<double> values);

/// Indices 0 … n-1 in random order, cut into `groups` disjoint pieces whose sizes differ by at most one: a set often
/// comes class by class, and then consecutive rows are no sample of it.
/// @returns groups tensors (n/groups or one more) int64
/// @throws Error failure unless 1 <= groups <= n
std::vector<at::Tensor> random_groups(int64_t n, int64_t groups, uint64_t seed);

}  // namespace nextscale
