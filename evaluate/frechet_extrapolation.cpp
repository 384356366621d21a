#include "nextscale/evaluate/frechet_extrapolation.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/evaluate/feature_rows.h"

namespace nextscale {
namespace {

constexpr int64_t kRowsOfStatistics = 4096;

at::Tensor chosen(const at::Tensor& rows, const at::Tensor& indices) {
  return rows.index_select(0, indices.to(rows.device()));
}

FeatureStatistics statistics_of(const at::Tensor& rows, const at::Tensor& indices) {
  FeatureStatistics found;
  for (const auto& some : indices.split(kRowsOfStatistics)) found.add(chosen(rows, some));
  return found;
}

/// By rows where they are few, since covariances without full rank cost digits.
double distance_of(const FrechetReference& reference, const at::Tensor& rows, const at::Tensor& indices) {
  if (indices.numel() <= rows.size(1)) return reference.value(chosen(rows, indices));
  return reference.value(statistics_of(rows, indices));
}

/// The line of values over 1/N: value at 0, and slope.
void fit(FrechetAtInfinity& found) {
  const auto count = static_cast<double>(found.points.size());
  double mean_x = 0, mean_y = 0;
  for (const auto& [n, y] : found.points) mean_x += 1 / (static_cast<double>(n) * count), mean_y += y / count;
  double products = 0, squares = 0;
  for (const auto& [n, y] : found.points) {
    const double x = 1 / static_cast<double>(n) - mean_x;
    products += x * (y - mean_y);
    squares += x * x;
  }
  found.slope = products / squares;
  found.value = mean_y - found.slope * mean_x;
}

}  // namespace

FrechetAtInfinity frechet_at_infinity(const at::Tensor& generated, const FrechetReference& reference, uint64_t seed,
                                      const FrechetAtInfinityOptions& options, const FrechetProgress& progress) {
  constexpr const char* kWhere = "extrapolated Fréchet distance";
  require_rows(generated, kWhere, 3);
  const int64_t n = generated.size(0), least = options.least != 0 ? options.least : std::max(n / 10, int64_t{2});
  if (options.points < 2) throw failure({kWhere, "points", "at least 2", std::to_string(options.points)});
  if (least < 2 || least >= n) {
    throw failure({kWhere, "rows of the first point", "2 to " + std::to_string(n - 1), std::to_string(least)});
  }
  FrechetAtInfinity found;
  for (int64_t point = 0; point < options.points; ++point) {
    const int64_t rows = least + (n - least) * point / (options.points - 1);
    auto generator = make_generator(derived_seed(seed, static_cast<uint64_t>(point)));
    const auto indices = at::randperm(n, generator, at::kLong).slice(0, 0, rows);
    found.points.emplace_back(rows, distance_of(reference, generated, indices));
    if (progress) progress(point + 1, options.points);
  }
  fit(found);
  return found;
}

Interval frechet_interval(double value, const at::Tensor& generated, const FrechetReference& reference, uint64_t seed,
                          int64_t groups, const FrechetProgress& progress) {
  require_rows(generated, "interval of a Fréchet distance", 4);
  const int64_t n = generated.size(0);
  if (groups < 2 || groups > n || n - (n + groups - 1) / groups < 2) {
    throw failure({"interval of a Fréchet distance", "groups", "2 to " + std::to_string(n), std::to_string(groups)});
  }
  const auto cut = random_groups(n, groups, seed);
  const bool by_rows = n <= generated.size(1);
  FeatureStatistics all;
  std::vector<FeatureStatistics> parts;
  for (const auto& group : cut) {
    if (by_rows) break;
    parts.push_back(statistics_of(generated, group));
    all.merge(parts.back());
  }
  std::vector<double> without;
  for (size_t group = 0; group < cut.size(); ++group) {
    if (by_rows) {
      auto others = cut;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(group));
      without.push_back(reference.value(chosen(generated, at::cat(others))));
    } else {
      without.push_back(reference.value(all.without(parts[group])));
    }
    if (progress) progress(static_cast<int64_t>(group) + 1, groups);
  }
  return jackknife_interval(value, without);
}

}  // namespace nextscale
