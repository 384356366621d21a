#include "nextscale/evaluate/kernel_distance.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/evaluate/feature_rows.h"
#include "nextscale/evaluate/numpy_order.h"

namespace nextscale {
namespace {

constexpr int64_t kKernelBlock = 2048;
constexpr const char* kKernelDistance = "kernel distance";

void require_comparable(const at::Tensor& first, const at::Tensor& second) {
  require_rows(first, std::string(kKernelDistance) + ": first set", 2);
  require_rows(second, std::string(kKernelDistance) + ": second set", 2);
  require_same_width(first, second, kKernelDistance);
}

/// (x·y/D + 1)³ of all pairs. @param x (a, D), @param y (b, D) float64 @returns (a, b)
at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  const auto base = x.mm(y.t()).div_(static_cast<double>(x.size(1))).add_(1);
  return base * base * base;
}

/// Kernel summed over all pairs of two sets.
double sum_between(const at::Tensor& first, const at::Tensor& second) {
  double sum = 0;
  for (int64_t i = 0; i < first.size(0); i += kKernelBlock) {
    const auto x = wide_rows(first, i, std::min(i + kKernelBlock, first.size(0)));
    for (int64_t j = 0; j < second.size(0); j += kKernelBlock) {
      sum += kernel(x, wide_rows(second, j, std::min(j + kKernelBlock, second.size(0)))).sum().item<double>();
    }
  }
  return sum;
}

/// Kernel summed over ordered pairs of different rows of one set.
double sum_within(const at::Tensor& rows) {
  double sum = 0;
  for (int64_t i = 0; i < rows.size(0); i += kKernelBlock) {
    const auto x = wide_rows(rows, i, std::min(i + kKernelBlock, rows.size(0)));
    const auto own = kernel(x, x);
    sum += (own.sum() - own.trace()).item<double>();
    for (int64_t j = i + kKernelBlock; j < rows.size(0); j += kKernelBlock) {
      sum += 2 * kernel(x, wide_rows(rows, j, std::min(j + kKernelBlock, rows.size(0)))).sum().item<double>();
    }
  }
  return sum;
}

double unbiased(const at::Tensor& first, const at::Tensor& second) {
  const auto n = static_cast<double>(first.size(0)), m = static_cast<double>(second.size(0));
  return sum_within(first) / (n * (n - 1)) + sum_within(second) / (m * (m - 1)) -
         2 * sum_between(first, second) / (n * m);
}

at::Tensor chosen(const at::Tensor& rows, const std::vector<int64_t>& indices) {
  return rows.index_select(0, at::tensor(indices, at::kLong).to(rows.device()));
}

}  // namespace

std::vector<KernelSubset> kernel_subsets(int64_t n, int64_t m, const KernelDistanceOptions& options) {
  if (options.subsets < 1) throw failure({kKernelDistance, "subsets", "at least 1", std::to_string(options.subsets)});
  const bool first_set_first = options.draws == KernelDraws::first_then_second;
  const int64_t size = first_set_first ? options.subset_size : std::min({n, m, options.subset_size});
  if (size < 2) throw failure({kKernelDistance, "rows of a subset", "at least 2", std::to_string(size)});
  if (std::min(n, m) < size) {
    throw failure({kKernelDistance, "too few rows for a subset", std::to_string(size), std::to_string(std::min(n, m))});
  }
  std::mt19937 generator(options.seed);
  std::vector<KernelSubset> subsets(static_cast<size_t>(options.subsets));
  for (auto& subset : subsets) {
    if (first_set_first) subset.first = numpy_choice(generator, n, size);
    subset.second = numpy_choice(generator, m, size);
    if (!first_set_first) subset.first = numpy_choice(generator, n, size);
  }
  return subsets;
}

KernelDistance kernel_distance(const at::Tensor& first, const at::Tensor& second, const KernelDistanceOptions& options,
                               const std::function<void(int64_t done, int64_t all)>& on_subset) {
  require_comparable(first, second);
  const auto subsets = kernel_subsets(first.size(0), second.size(0), options);
  std::vector<double> values;
  for (const auto& subset : subsets) {
    values.push_back(unbiased(chosen(first, subset.first), chosen(second, subset.second)));
    if (on_subset) on_subset(static_cast<int64_t>(values.size()), options.subsets);
  }
  const auto all = at::tensor(values, at::kDouble);
  return {.value = all.mean().item<double>(),
          .deviation = all.std(/*unbiased=*/false).item<double>(),
          .subsets = options.subsets,
          .subset_size = static_cast<int64_t>(subsets.front().first.size())};
}

double kernel_distance_whole(const at::Tensor& first, const at::Tensor& second) {
  require_comparable(first, second);
  return unbiased(first, second);
}

Interval kernel_distance_interval(const at::Tensor& first, const at::Tensor& second, const KernelDistance& found,
                                  uint64_t seed, int64_t parts) {
  require_comparable(first, second);
  const int64_t fewest = std::min(first.size(0), second.size(0));
  if (parts < 2 || fewest < 2 * parts) {
    throw failure({std::string(kKernelDistance) + ": interval", "too few rows", "at least 2 in each of 2 parts or more",
                   std::to_string(fewest) + " in " + std::to_string(parts)});
  }
  const auto of_first = random_groups(first.size(0), parts, derived_seed(seed, 0));
  const auto of_second = random_groups(second.size(0), parts, derived_seed(seed, 1));
  std::vector<double> values;
  for (size_t i = 0; i < of_first.size(); ++i) {
    values.push_back(unbiased(first.index_select(0, of_first[i].to(first.device())),
                              second.index_select(0, of_second[i].to(second.device()))));
  }
  const auto of_parts = parts_interval(0, values);
  const double noise =
      found.subsets > 0 ? student_t_95(1'000'000) * found.deviation / std::sqrt(static_cast<double>(found.subsets)) : 0;
  const double half = std::hypot(of_parts.high, noise);
  return {found.value - half, found.value + half};
}

}  // namespace nextscale
