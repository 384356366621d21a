#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace nextscale {

/// A frozen network whose inner maps perceptual distances compare (perceptual_distance.h).
class PerceptualTrunk : public torch::nn::Module {
 public:
  /// @param x (B, 3, h, w), normalised as the network was trained, both sides at least smallest_side()
  /// @returns (B, widths()[k], h_k, w_k), each non-negative, in the order of the network
  virtual std::vector<torch::Tensor> taps(const torch::Tensor& x) = 0;
  virtual std::vector<int64_t> widths() const = 0;
  virtual int64_t smallest_side() const = 0;

 protected:
  /// For the end of a constructor: nothing here is ever trained, gradients flow through to the pictures.
  void freeze() {
    eval();
    for (auto& parameter : parameters()) parameter.requires_grad_(false);
  }
};

}  // namespace nextscale
