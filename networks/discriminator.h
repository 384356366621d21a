#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/types.h>

namespace nextscale {

/// A network that tells real pictures from a tokenizer's. Its state dict is what is trained; trunks that are not
/// trained are no part of it.
class Discriminator : public torch::nn::Module {
 public:
  /// @param pictures (B, C, h, w) in [-1, 1]
  /// @param draws    for networks that look at a random part of large pictures; a handle
  /// @returns        logits (B, …), high where a picture looks real; the loss is over all of them
  /// @throws Error   as check
  virtual torch::Tensor forward(const torch::Tensor& pictures, at::Generator draws) = 0;

  /// First weights, all of them from `generator`: the same generator, the same weights on every device.
  virtual void initialise(at::Generator generator) = 0;

  /// @param shape (B, C, h, w) of pictures to come
  /// @throws Error failure where forward could not take them: too small, other channels, a batch that does not divide
  virtual void check(at::IntArrayRef shape) const = 0;
};

/// Draws on the CPU in float32 wherever the parameter lies.
void draw_normal(const torch::Tensor& parameter, double mean, double std, at::Generator generator);

}  // namespace nextscale
