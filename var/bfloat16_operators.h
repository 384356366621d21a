#pragma once

#include <torch/types.h>

/// Operators between the matrix products of the transformer. On the CPU LibTorch's take a fifth of a bfloat16 step;
/// contiguous bfloat16 tensors go through loops of our own there, everything else through LibTorch's operators.
namespace nextscale {

/// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)); not differentiable: for what has its own backward pass, and for
/// inference.
torch::Tensor gelu_tanh(const torch::Tensor& x);

struct GeluGradient {
  torch::Tensor activated;  ///< gelu_tanh(x)
  torch::Tensor gradient;   ///< of x
};
/// @param of_activated gradient of gelu_tanh(x); may be overwritten
GeluGradient gelu_tanh_gradient(const torch::Tensor& x, torch::Tensor of_activated);

/// softmax(scale x + mask) over the last dimension. @param x may be overwritten @param mask may be undefined
torch::Tensor scaled_softmax(torch::Tensor x, double scale, const torch::Tensor& mask = {});

}  // namespace nextscale
