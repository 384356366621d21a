#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// Mean and covariance of feature rows that come in pieces, in float64: each piece about its own mean, pieces joined by
/// the pairwise formula of Chan, Golub and LeVeque, so that a large common offset costs no digits.
class FeatureStatistics {
 public:
  /// @param rows (n, D), any floating type and device; n may be 0
  /// @throws Error failure if D differs from earlier rows or a value is not finite
  void add(const at::Tensor& rows);
  /// As if the other's rows had been added here (shards of one set).
  void merge(const FeatureStatistics& other);

  int64_t count() const { return count_; }
  int64_t width() const { return mean_.defined() ? mean_.size(0) : 0; }  ///< D
  const at::Tensor& mean() const { return mean_; }                       ///< (D) float64
  /// (D, D) float64, divided by n - 1. @throws Error failure below two rows
  at::Tensor covariance() const;

 private:
  void join(int64_t count, const at::Tensor& mean, const at::Tensor& scatter);

  int64_t count_ = 0;
  at::Tensor mean_, scatter_;  // scatter: sum of the outer products of (row - mean)
};

struct FrechetDistance {
  double value = 0;  ///< |mean_a - mean_b|^2 + tr A + tr B - 2 tr sqrt(A B); rounding may leave it a hair below 0
  int64_t rank_a = 0, rank_b = 0, width = 0;  ///< ranks of the two covariances, D
  /// A covariance without full rank: fewer rows than columns + 1, or columns that say the same.
  bool deficient() const { return rank_a < width || rank_b < width; }
};

/// Exact distance of two sets of rows: tr sqrt(A B) is the nuclear norm of Xc Yc^T over sqrt((n-1)(m-1)), so neither a
/// covariance nor a matrix root is formed and rank-deficient sets cost no digits. Sides with more rows than columns are
/// first reduced to the triangular factor of their QR decomposition, which has the same singular values.
/// @param a (n, D), @param b (m, D), any floating type
/// @throws Error failure: fewer than two rows on a side, different D, values that are not finite
FrechetDistance frechet_distance(const at::Tensor& a, const at::Tensor& b);

/// The same from statistics alone: sum of the roots of the eigenvalues of sqrt(A) B sqrt(A), two symmetric
/// decompositions. Good to 1e-10 relative at full rank; about 1e-5 absolute below it.
FrechetDistance frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b);

}  // namespace nextscale
