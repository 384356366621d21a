#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// Done and all of what is to be done, in pairs of rows.
using PairProgress = std::function<void(int64_t done, int64_t all)>;

/// One set's side of the squared distances between all pairs of rows, read a block at a time.
///
/// Most pairs need no more than |a|² - 2 a·b + |b|², one matrix product in float64 about a common centre, whose error
/// is below `rounding` · (|a|² + |b|²) whatever the order of its sums. Where that does not decide, squared_difference()
/// does.
class PairRows {
 public:
  /// @param rows   (n, D) float32 or float64, on any device (matrix products run there); others become float32
  /// @param centre (D) float64 on the CPU, near the rows: the error is relative to distances from it
  PairRows(const at::Tensor& rows, const at::Tensor& centre);

  int64_t count() const { return host_.size(0); }
  int64_t width() const { return host_.size(1); }
  at::Tensor block(int64_t begin, int64_t end) const;  ///< (end - begin, D) float64 about the centre
  const double* squares() const { return squares_.const_data_ptr<double>(); }  ///< (n) squared norms about the centre
  const at::Tensor& host() const { return host_; }                             ///< the rows on the CPU, contiguous

 private:
  at::Tensor rows_, host_, centre_, squares_;
};

/// Bound of a product's error relative to |a|² + |b|², with a margin of about 4.
double pair_rounding(int64_t width);

/// |a_i - b_j|² in float64 from the differences, in one order of sums: the same for (i, j) and (j, i) bit by bit, and 0
/// for equal rows, so that ties are ties.
double squared_difference(const PairRows& a, int64_t i, const PairRows& b, int64_t j);

/// Rows i_begin … i_end of one set beside j_begin … j_end of another.
struct PairBlock {
  int64_t i_begin, i_end, j_begin, j_end;
  const double* products;  ///< (i_end - i_begin, j_end - j_begin) row-major, about the centre

  int64_t columns() const { return j_end - j_begin; }
  double product(int64_t i, int64_t j) const { return products[(i - i_begin) * columns() + (j - j_begin)]; }
};

/// All blocks of at most size × size pairs. Memory: three blocks.
void for_each_block(const PairRows& a, const PairRows& b, int64_t size,
                    const std::function<void(const PairBlock&)>& visit);

/// The same of a set with itself, without the blocks below the diagonal.
void for_each_block_within(const PairRows& rows, int64_t size, const std::function<void(const PairBlock&)>& visit);

}  // namespace nextscale
