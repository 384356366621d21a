#pragma once

#include "nextscale/var/attention.h"

namespace nextscale {

/// softmax(scale * q k^T) v over the plan's pieces with a gradient of its own: the pieces' gradients of keys and values
/// accumulate in place, where autograd would pad each piece's to full length and add. The weights of
/// attention are kept for the backward pass where there is one piece, else computed again. Only the first piece may
/// have a mask.
/// @param q, k, v (B, H, L, c) @returns (B, L, H * c)
torch::Tensor accumulated_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                    const AttentionPlan& plan, double scale);

}  // namespace nextscale
