#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/manifold.h"

namespace nextscale {

/// The arithmetic of OpenAI's evaluations/evaluator.py: squared distances of blocks of 10,000 × 10,000 rows from
/// features, norms, products and sums that are rounded to float16 (accumulated in float32); a block with a value that
/// is not finite is done again in float32. A ball reaches to the k-th smallest of a row's distances behind the
/// smallest, which is taken for itself, and is closed. How sums are accumulated depends on the device there, so a share
/// agrees to about ±0.02 and not to the row.
/// @param generated (n, D), @param reference (m, D), checked by compare_manifolds
Manifold compare_manifolds_in_half(const at::Tensor& generated, const at::Tensor& reference, int64_t k,
                                   const PairProgress& progress = {});

}  // namespace nextscale
