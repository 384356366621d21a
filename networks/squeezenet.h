#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>

#include "nextscale/networks/perceptual_trunk.h"

namespace nextscale {

struct FireOptions {
  int64_t in, squeeze;
  int64_t expand;  ///< channels of each of the two expansions
};

/// Fewer channels, then two convolutions of them side by side, each with a ReLU.
class FireImpl : public torch::nn::Module {
 public:
  explicit FireImpl(const FireOptions& options);
  /// (B, in, h, w) -> (B, 2 * expand, h, w)
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::Conv2d squeeze_, expand1x1_, expand3x3_;
};
TORCH_MODULE(Fire);

/// SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360, and its authors' later revision) without its classifier.
/// State-dict names are torchvision's: features.0.weight … features.12.expand3x3.bias.
class SqueezeNetImpl : public PerceptualTrunk {
 public:
  SqueezeNetImpl();
  /// Seven maps of 64, 128, 256, 384, 384, 512 and 512 channels, behind features 1, 4, 7, 9, 10, 11 and 12. Their sides
  /// are about h / 2, h / 4, h / 8 and four times h / 16; pools round up.
  std::vector<torch::Tensor> taps(const torch::Tensor& x) override;
  std::vector<int64_t> widths() const override;
  int64_t smallest_side() const override { return 17; }

 private:
  torch::nn::Conv2d stem_{nullptr};
  std::vector<Fire> fires_;
};
TORCH_MODULE(SqueezeNet);

}  // namespace nextscale
