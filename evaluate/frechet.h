#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// Mean and covariance of feature rows that come in pieces, in float64: each piece about its own mean, pieces joined by
/// the pairwise formula of Chan, Golub and LeVeque, so that a large common offset costs no digits.
class FeatureStatistics {
 public:
  FeatureStatistics() = default;
  /// Statistics of a file. A count of 0 is one that the file does not say: then nothing depends on it, and rows cannot
  /// be added.
  /// @param mean (D), @param covariance (D, D) divided by count - 1, any floating type; made symmetric to the last bit
  /// @throws Error failure: other shapes, values that are not finite, a covariance that is not symmetric (1e-5 of its
  ///         largest value) or has a variance below 0, a negative count or one of 1
  static FeatureStatistics from_moments(const at::Tensor& mean, const at::Tensor& covariance, int64_t count);
  /// @param rows (n, D), any floating type and device; n may be 0
  /// @throws Error failure if D differs from earlier rows or a value is not finite
  void add(const at::Tensor& rows);
  /// As if the other's rows had been added here (shards of one set). @throws Error failure as add
  void merge(const FeatureStatistics& other);
  /// Statistics of the rows that are not among the other's, all of which are among these: join's formula backwards.
  /// @throws Error failure unless the other has fewer rows and the same D
  FeatureStatistics without(const FeatureStatistics& other) const;

  int64_t count() const { return count_; }                               ///< 0 also where a file does not say it
  bool counted() const { return !covariance_.defined(); }                ///< false where it does not
  int64_t width() const { return mean_.defined() ? mean_.size(0) : 0; }  ///< D
  const at::Tensor& mean() const { return mean_; }                       ///< (D) float64
  /// (D, D) float64, divided by n - 1. @throws Error failure below two rows
  at::Tensor covariance() const;

 private:
  void require_counted() const;
  void join(int64_t count, const at::Tensor& mean, const at::Tensor& scatter);

  int64_t count_ = 0;
  at::Tensor mean_, scatter_;  // scatter: sum of the outer products of (row - mean)
  at::Tensor covariance_;      // only where the count is not known
};

struct FrechetDistance {
  double value = 0;  ///< |mean_a - mean_b|^2 + tr A + tr B - 2 tr sqrt(A B); rounding may leave it a hair below 0
  int64_t rank_a = 0, rank_b = 0, width = 0;  ///< ranks of the two covariances, D
  /// A covariance without full rank: fewer rows than columns + 1, or columns that say the same.
  bool deficient() const { return rank_a < width || rank_b < width; }
};

/// One side of many distances, decomposed once.
class FrechetReference {
 public:
  /// Keeps the triangular factor of the rows. @param rows (n, D), any floating type
  /// @throws Error failure: fewer than two rows, values that are not finite
  explicit FrechetReference(const at::Tensor& rows);
  /// Keeps the covariance's root. @throws Error failure: one row or none, an eigenvalue far below 0
  explicit FrechetReference(const FeatureStatistics& statistics);

  int64_t width() const { return mean_.size(0); }
  /// Distances to another set; exact as frechet_distance() of the same arguments.
  /// @throws Error failure as frechet_distance()
  FrechetDistance distance(const at::Tensor& rows) const;
  FrechetDistance distance(const FeatureStatistics& statistics) const;
  /// Without the other set's rank, which costs a decomposition.
  double value(const at::Tensor& rows) const;
  double value(const FeatureStatistics& statistics) const;

 private:
  at::Tensor mean_, root_;  // (D), (r, D): root^T root is the covariance
  int64_t rank_;
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
