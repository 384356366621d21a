#include "nextscale/evaluate/intervals.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"

namespace nextscale {
namespace {

constexpr double kLevel = 0.95;

/// Probability that a Student variable of that many degrees lies within -t … t.
double within(double t, int64_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double sine = std::sin(angle), cosine = std::cos(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1, sum = 0;
  for (int64_t i = odd ? 1 : 0; i < degrees - 1; i += 2) {
    sum += term;
    term *= cosine * cosine * static_cast<double>(i + 1) / static_cast<double>(i + 2);
  }
  return odd ? (angle + sine * sum) * 2 / std::numbers::pi : sine * sum;
}

struct Spread {
  double mean, squares;  // squares: sum of squared deviations
};

Spread spread_of(const std::vector<double>& values, const std::string& where) {
  if (values.size() < 2) throw failure({where, "too few groups", "at least 2", std::to_string(values.size())});
  Spread spread{0, 0};
  for (const double value : values) spread.mean += value / static_cast<double>(values.size());
  for (const double value : values) spread.squares += (value - spread.mean) * (value - spread.mean);
  if (!std::isfinite(spread.squares)) throw failure({.where = where, .what = "values that are not finite"});
  return spread;
}

}  // namespace

double student_t_95(int64_t degrees) {
  if (degrees < 1) throw failure({"Student's t", "degrees of freedom", "at least 1", std::to_string(degrees)});
  // The sums lose nothing by stopping here: t changes by 2e-6 from 10^6 degrees on.
  degrees = std::min(degrees, int64_t{1'000'000});
  double low = 1.9, high = 13;  // of infinitely many degrees and of one
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (within(middle, degrees) < kLevel ? low : high) = middle;
  }
  return (low + high) / 2;
}

Interval jackknife_interval(double value, const std::vector<double>& without_group) {
  const auto spread = spread_of(without_group, "jackknife");
  const auto groups = static_cast<double>(without_group.size());
  const double half =
      student_t_95(static_cast<int64_t>(without_group.size()) - 1) * std::sqrt((groups - 1) / groups * spread.squares);
  return {value - half, value + half};
}

Interval parts_interval(double value, const std::vector<double>& of_parts) {
  const auto spread = spread_of(of_parts, "parts");
  const auto parts = static_cast<double>(of_parts.size());
  const double half =
      student_t_95(static_cast<int64_t>(of_parts.size()) - 1) * std::sqrt(spread.squares / (parts - 1) / parts);
  return {value - half, value + half};
}

Interval bootstrap_mean_interval(const at::Tensor& values, uint64_t seed, int64_t resamples) {
  if (values.dim() != 1 || values.size(0) < 2) {
    throw failure({"bootstrap", "too few values", "(n) with n at least 2", shape_text(values.sizes())});
  }
  if (resamples < 40) throw failure({"bootstrap", "too few resamples", "at least 40", std::to_string(resamples)});
  const auto wide = values.detach().to(at::kCPU, at::kDouble);
  if (!wide.isfinite().all().item<bool>()) throw failure({.where = "bootstrap", .what = "values that are not finite"});
  auto generator = make_generator(seed);
  const int64_t n = wide.size(0);
  std::vector<double> means;
  for (int64_t i = 0; i < resamples; ++i) {
    const auto drawn = at::randint(n, {n}, generator, at::kLong);
    means.push_back(wide.index_select(0, drawn).mean().item<double>());
  }
  return percentile_interval(std::move(means));
}

Interval share_interval(int64_t hits, int64_t n) {
  if (n < 1 || hits < 0 || hits > n) {
    throw failure({"interval", "is of no share", "0 to n hits of n at least 1", fmt::format("{} of {}", hits, n)});
  }
  constexpr double kNormal95 = 1.959963984540054;
  const auto count = static_cast<double>(n), share = static_cast<double>(hits) / count;
  const double square = kNormal95 * kNormal95 / count;
  const double middle = (share + square / 2) / (1 + square);
  const double reach = kNormal95 / (1 + square) * std::sqrt(share * (1 - share) / count + square / (4 * count));
  // Exactly the ends where there is nothing beyond them.
  return {hits == 0 ? 0.0 : middle - reach, hits == n ? 1.0 : middle + reach};
}

Interval percentile_interval(std::vector<double> values) {
  if (values.empty()) throw failure({.where = "percentiles", .what = "no values"});
  std::sort(values.begin(), values.end());
  const auto at_share = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const auto above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at_share((1 - kLevel) / 2), at_share((1 + kLevel) / 2)};
}

std::vector<at::Tensor> random_groups(int64_t n, int64_t groups, uint64_t seed) {
  if (groups < 1 || groups > n) {
    throw failure({"random groups", "number of groups", "1 to " + std::to_string(n), std::to_string(groups)});
  }
  auto generator = make_generator(seed);
  return at::randperm(n, generator, at::kLong).tensor_split(groups);
}

}  // namespace nextscale
