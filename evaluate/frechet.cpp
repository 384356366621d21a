#include "nextscale/evaluate/frechet.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/evaluate/feature_rows.h"

namespace nextscale {
namespace {

constexpr const char* kFrechet = "Fréchet distance";

at::Tensor checked_rows(const at::Tensor& rows, int64_t least = 2) {
  require_rows(rows, kFrechet, least);
  return rows.detach().to(at::kCPU, at::kDouble);
}

void require_width(int64_t expected, int64_t width) {
  if (width == expected) return;
  throw failure({kFrechet, "widths of the features differ", std::to_string(expected), std::to_string(width)});
}

void require_two_rows(const FeatureStatistics& statistics) {
  if (!statistics.counted() || statistics.count() >= 2) return;
  throw failure({kFrechet, "too few rows", "at least 2", std::to_string(statistics.count())});
}

/// Values above numerical noise. @param singular (r) descending or ascending, @param size largest side of the matrix
int64_t rank_of(const at::Tensor& singular, int64_t size) {
  const double largest = singular.numel() > 0 ? singular.max().item<double>() : 0;
  const double noise = largest * static_cast<double>(size) * std::numeric_limits<double>::epsilon();
  return (singular > noise).sum().item<int64_t>();
}

int64_t rank_of_covariance(const at::Tensor& eigenvalues, const FeatureStatistics& statistics) {
  const int64_t rank = rank_of(eigenvalues, statistics.width());
  return statistics.counted() ? std::min(rank, statistics.count() - 1) : rank;
}

/// Centred rows over sqrt(n - 1), reduced to at most D rows: R^T R is the covariance.
struct Factor {
  at::Tensor mean;  // (D)
  at::Tensor root;  // (min(n, D), D)
  int64_t size;     // the larger side of what it came from

  int64_t rank() const { return rank_of(at::linalg_svdvals(root), size); }
};

Factor factor_of(const at::Tensor& rows) {
  const auto mean = rows.mean(0);
  auto root = (rows - mean) / std::sqrt(static_cast<double>(rows.size(0) - 1));
  if (root.size(0) > root.size(1)) root = std::get<1>(at::linalg_qr(root, "r"));
  return {mean, root, std::max(rows.size(0), rows.size(1))};
}

double distance_of(const at::Tensor& apart, const at::Tensor& traces, const at::Tensor& cross) {
  return (apart.square().sum() + traces - 2 * cross).item<double>();
}

}  // namespace

FeatureStatistics FeatureStatistics::from_moments(const at::Tensor& mean, const at::Tensor& covariance, int64_t count) {
  if (mean.dim() != 1 || mean.size(0) == 0 || covariance.dim() != 2 || covariance.size(0) != mean.size(0) ||
      covariance.size(1) != mean.size(0)) {
    throw failure({"statistics", "shapes of mean and covariance", "(D) and (D, D)",
                   shape_text(mean.sizes()) + " and " + shape_text(covariance.sizes())});
  }
  if (count < 0 || count == 1) throw failure({"statistics", "count", "0 or at least 2", std::to_string(count)});
  FeatureStatistics found;
  found.mean_ = mean.detach().to(at::kCPU, at::kDouble).clone();
  const auto wide = covariance.detach().to(at::kCPU, at::kDouble);
  if (!found.mean_.isfinite().all().item<bool>() || !wide.isfinite().all().item<bool>()) {
    throw failure({.where = "statistics", .what = "values that are not finite"});
  }
  if (((wide - wide.t()).abs().max() > 1e-5 * wide.abs().max()).item<bool>()) {
    throw failure({.where = "statistics", .what = "the covariance is not symmetric"});
  }
  if (wide.diagonal().min().item<double>() < 0) {
    throw failure({.where = "statistics", .what = "the covariance has a variance below 0"});
  }
  const auto symmetric = (wide + wide.t()) / 2;
  found.count_ = count;
  (count == 0 ? found.covariance_ : found.scatter_) =
      count == 0 ? symmetric : symmetric * static_cast<double>(count - 1);
  return found;
}

void FeatureStatistics::require_counted() const {
  if (!counted())
    throw failure({.where = "statistics", .what = "of an unknown number of rows cannot be added to others"});
}

void FeatureStatistics::add(const at::Tensor& rows) {
  require_counted();
  const auto wide = checked_rows(rows, 0);
  if (wide.size(0) == 0) return;
  const auto mean = wide.mean(0);
  const auto centred = wide - mean;
  join(wide.size(0), mean, centred.t().mm(centred));
}

void FeatureStatistics::merge(const FeatureStatistics& other) {
  require_counted();
  other.require_counted();
  if (other.count_ > 0) join(other.count_, other.mean_, other.scatter_);
}

FeatureStatistics FeatureStatistics::without(const FeatureStatistics& other) const {
  require_counted();
  other.require_counted();
  if (other.count_ >= count_) {
    throw failure(
        {"statistics", "rows to be left out", "fewer than " + std::to_string(count_), std::to_string(other.count_)});
  }
  if (other.count_ == 0) return *this;
  require_width(width(), other.width());
  FeatureStatistics left;
  left.count_ = count_ - other.count_;
  const auto difference = mean_ - other.mean_;  // of the whole from the part
  const double share = static_cast<double>(other.count_) / static_cast<double>(left.count_);
  left.mean_ = mean_ + difference * share;
  left.scatter_ = scatter_ - other.scatter_ - static_cast<double>(count_) * share * at::outer(difference, difference);
  return left;
}

void FeatureStatistics::join(int64_t count, const at::Tensor& mean, const at::Tensor& scatter) {
  if (count_ == 0) {
    count_ = count;
    mean_ = mean.clone();
    scatter_ = scatter.clone();
    return;
  }
  if (mean.size(0) != width()) {
    throw failure({.what = "widths of the features differ",
                   .expected = std::to_string(width()),
                   .got = std::to_string(mean.size(0))});
  }
  const auto all = static_cast<double>(count_ + count);
  const auto difference = mean - mean_;
  const double weight = static_cast<double>(count_) * static_cast<double>(count) / all;
  scatter_ = scatter_ + scatter + weight * at::outer(difference, difference);
  mean_ = mean_ + difference * (static_cast<double>(count) / all);
  count_ += count;
}

at::Tensor FeatureStatistics::covariance() const {
  if (!counted()) return covariance_;
  if (count_ < 2) throw failure({"covariance", "too few rows", "at least 2", std::to_string(count_)});
  return scatter_ / static_cast<double>(count_ - 1);
}

FrechetReference::FrechetReference(const at::Tensor& rows) {
  const auto factor = factor_of(checked_rows(rows));
  mean_ = factor.mean;
  root_ = factor.root;
  rank_ = factor.rank();
}

FrechetReference::FrechetReference(const FeatureStatistics& statistics) {
  require_two_rows(statistics);
  const auto [values, vectors] = at::linalg_eigh(statistics.covariance());
  // Eigenvalues of a covariance below 0 are rounding, that of a file's float32 at worst.
  if (values[0].item<double>() < -1e-4 * values.abs().max().item<double>()) {
    throw failure({.where = kFrechet, .what = "the covariance has an eigenvalue below 0"});
  }
  mean_ = statistics.mean();
  root_ = vectors.t() * values.clamp_min(0).sqrt().unsqueeze(1);
  rank_ = rank_of_covariance(values, statistics);
}

double FrechetReference::value(const at::Tensor& rows) const {
  const auto wide = checked_rows(rows);
  require_width(width(), wide.size(1));
  const auto factor = factor_of(wide);
  return distance_of(mean_ - factor.mean, root_.square().sum() + factor.root.square().sum(),
                     at::linalg_svdvals(root_.mm(factor.root.t())).sum());
}

double FrechetReference::value(const FeatureStatistics& statistics) const {
  require_two_rows(statistics);
  require_width(width(), statistics.width());
  const auto covariance = statistics.covariance();
  const auto middle = root_.mm(covariance).mm(root_.t());
  return distance_of(mean_ - statistics.mean(), root_.square().sum() + covariance.trace(),
                     at::linalg_eigvalsh((middle + middle.t()) / 2).clamp_min(0).sqrt().sum());
}

FrechetDistance FrechetReference::distance(const at::Tensor& rows) const {
  return {.value = value(rows), .rank_a = rank_, .rank_b = factor_of(checked_rows(rows)).rank(), .width = width()};
}

FrechetDistance FrechetReference::distance(const FeatureStatistics& statistics) const {
  return {.value = value(statistics),
          .rank_a = rank_,
          .rank_b = rank_of_covariance(at::linalg_eigvalsh(statistics.covariance()), statistics),
          .width = width()};
}

FrechetDistance frechet_distance(const at::Tensor& a, const at::Tensor& b) {
  require_rows(b, kFrechet, 2);
  return FrechetReference(a).distance(b);
}

FrechetDistance frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
  require_two_rows(b);
  return FrechetReference(a).distance(b);
}

}  // namespace nextscale
