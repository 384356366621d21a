#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// silu(group_norm(x)), the pair in front of every convolution, with its gradient. On the CPU, for maps in
/// channels-last order, both directions are one pass over each picture in float32 that keeps only x: LibTorch's two
/// operators were a third of a training step of narrow networks. Elsewhere it is those two operators.
/// @param x (B, C, h, w) float32 or bfloat16 @param weight, bias (C) float32
at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups, double eps);
/// The two operators, for any input.
at::Tensor norm_silu_plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups,
                           double eps);

}  // namespace nextscale
