#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/pair_blocks.h"

namespace nextscale {

/// The k nearest of each row, exactly: a block's products pass over what cannot be among them, the rest is decided by
/// squared_difference(). Ties go to the lower index, so neither blocks nor threads show in the result.
struct SquaredNeighbours {
  at::Tensor squared;  ///< (n, k) float64, ascending
  at::Tensor indices;  ///< (n, k) int64
};

/// Nearest rows of `to` for every row of `from`. @param k 1 … to.count() @param on_pairs told after each block
SquaredNeighbours nearest_between(const PairRows& from, const PairRows& to, int64_t k, int64_t block,
                                  const std::function<void(int64_t pairs)>& on_pairs = {});

/// Nearest other rows of the same set. @param k 1 … rows.count() - 1
SquaredNeighbours nearest_within(const PairRows& rows, int64_t k, int64_t block,
                                 const std::function<void(int64_t pairs)>& on_pairs = {});

}  // namespace nextscale
