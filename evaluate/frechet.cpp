#include "nextscale/evaluate/frechet.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

at::Tensor checked_rows(const at::Tensor& rows) {
  if (rows.dim() != 2) {
    throw failure({.what = "features are not rows", .expected = "(n, D)", .got = shape_text(rows.sizes())});
  }
  const auto wide = rows.detach().to(at::kCPU, at::kDouble);
  if (!wide.isfinite().all().item<bool>()) throw failure({.what = "features hold values that are not finite"});
  return wide;
}

void require_comparable(int64_t rows_a, int64_t rows_b, int64_t width_a, int64_t width_b) {
  for (const int64_t rows : {rows_a, rows_b}) {
    if (rows < 2) {
      throw failure({"Fréchet distance", "too few feature rows", "at least 2 a side", std::to_string(rows)});
    }
  }
  if (width_a != width_b) {
    throw failure(
        {"Fréchet distance", "widths of the features differ", std::to_string(width_a), std::to_string(width_b)});
  }
}

/// Values above numerical noise. @param singular (r) descending or ascending, @param size largest side of the matrix
int64_t rank_of(const at::Tensor& singular, int64_t size) {
  const double largest = singular.numel() > 0 ? singular.max().item<double>() : 0;
  const double noise = largest * static_cast<double>(size) * std::numeric_limits<double>::epsilon();
  return (singular > noise).sum().item<int64_t>();
}

/// Centred rows over sqrt(n - 1), reduced to at most D rows: R^T R is the covariance.
struct Factor {
  at::Tensor mean;  // (D)
  at::Tensor root;  // (min(n, D), D)
  int64_t rank;
};

Factor factor_of(const at::Tensor& rows) {
  const auto mean = rows.mean(0);
  auto root = (rows - mean) / std::sqrt(static_cast<double>(rows.size(0) - 1));
  const int64_t size = std::max(rows.size(0), rows.size(1));
  if (root.size(0) > root.size(1)) root = std::get<1>(at::linalg_qr(root, "r"));
  return {mean, root, rank_of(at::linalg_svdvals(root), size)};
}

}  // namespace

void FeatureStatistics::add(const at::Tensor& rows) {
  const auto wide = checked_rows(rows);
  if (wide.size(0) == 0) return;
  const auto mean = wide.mean(0);
  const auto centred = wide - mean;
  join(wide.size(0), mean, centred.t().mm(centred));
}

void FeatureStatistics::merge(const FeatureStatistics& other) {
  if (other.count_ > 0) join(other.count_, other.mean_, other.scatter_);
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
  if (count_ < 2) throw failure({"covariance", "too few feature rows", "at least 2", std::to_string(count_)});
  return scatter_ / static_cast<double>(count_ - 1);
}

FrechetDistance frechet_distance(const at::Tensor& a, const at::Tensor& b) {
  const auto rows_a = checked_rows(a), rows_b = checked_rows(b);
  require_comparable(rows_a.size(0), rows_b.size(0), rows_a.size(1), rows_b.size(1));
  const auto factor_a = factor_of(rows_a), factor_b = factor_of(rows_b);
  const auto cross = at::linalg_svdvals(factor_a.root.mm(factor_b.root.t())).sum();
  const auto traces = factor_a.root.square().sum() + factor_b.root.square().sum();
  const auto apart = (factor_a.mean - factor_b.mean).square().sum();
  return {.value = (apart + traces - 2 * cross).item<double>(),
          .rank_a = factor_a.rank,
          .rank_b = factor_b.rank,
          .width = rows_a.size(1)};
}

FrechetDistance frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
  require_comparable(a.count(), b.count(), a.width(), b.width());
  const auto covariance_a = a.covariance(), covariance_b = b.covariance();
  const auto [values, vectors] = at::linalg_eigh(covariance_a);
  // Eigenvalues of a covariance below 0 are rounding.
  const auto roots = values.clamp_min(0).sqrt();
  const auto root_a = (vectors * roots).mm(vectors.t());
  const auto middle = root_a.mm(covariance_b).mm(root_a);
  const auto cross = at::linalg_eigvalsh((middle + middle.t()) / 2).clamp_min(0).sqrt().sum();
  const auto traces = covariance_a.trace() + covariance_b.trace();
  const auto apart = (a.mean() - b.mean()).square().sum();
  return {.value = (apart + traces - 2 * cross).item<double>(),
          .rank_a = std::min(rank_of(values, a.width()), a.count() - 1),
          .rank_b = std::min(rank_of(at::linalg_eigvalsh(covariance_b), b.width()), b.count() - 1),
          .width = a.width()};
}

}  // namespace nextscale
