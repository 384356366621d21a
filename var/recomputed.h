#pragma once

#include <torch/types.h>

/// Pieces of the transformer that keep less for the backward pass than autograd would, and compute it again there.
/// Values and gradients are those of the plain operators.
namespace nextscale {

/// LayerNorm over the last dimension, scaled and shifted; keeps x, not the normalised x.
/// @param x (B, L, C) @param scale_plus_one, shift (B, 1, C) of the same dtype
torch::Tensor recomputed_norm(const torch::Tensor& x, const torch::Tensor& scale_plus_one, const torch::Tensor& shift,
                              double eps);

/// gelu_tanh(h) W^T + b; keeps h, not gelu(h).
/// @param h (B, L, D) @param weight (C, D) @param bias (C) of h's dtype
torch::Tensor recomputed_gelu_linear(const torch::Tensor& h, const torch::Tensor& weight, const torch::Tensor& bias);

}  // namespace nextscale
