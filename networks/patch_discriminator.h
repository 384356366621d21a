#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/pimpl.h>

#include "nextscale/networks/discriminator.h"

namespace nextscale {

struct PatchDiscriminatorOptions {
  int64_t channels = 3;  ///< of the pictures
  int64_t width = 64;    ///< channels behind the first convolution
  int64_t layers = 3;    ///< convolutions of stride 2
};

/// PatchGAN (Isola et al. 2017, arXiv 1611.07004): convolutions whose every output judges one patch of the picture,
/// 70x70 pixels with three layers. State-dict names are those of the published training code: main.0.weight …
class PatchDiscriminatorImpl : public Discriminator {
 public:
  explicit PatchDiscriminatorImpl(const PatchDiscriminatorOptions& options);
  /// (B, channels, h, w) -> (B, 1, h', w'), 6 x 6 of 64 x 64 with three layers. Draws nothing. Training statistics of
  /// the batch norms move with every forward in training mode.
  torch::Tensor forward(const torch::Tensor& pictures, at::Generator draws = {}) override;
  /// Convolutions N(0, 0.02), norms N(1, 0.02), biases 0, running statistics as new.
  void initialise(at::Generator generator) override;
  void check(at::IntArrayRef shape) const override;
  /// Side of the smallest picture that gives a logit: 24 with three layers.
  int64_t smallest_side() const;

 private:
  struct Layer {
    int64_t in, out, stride;
    bool has_norm;
  };
  static std::vector<Layer> plan(const PatchDiscriminatorOptions& options);

  PatchDiscriminatorOptions options_;
  torch::nn::Sequential main_;
};
TORCH_MODULE(PatchDiscriminator);

}  // namespace nextscale
