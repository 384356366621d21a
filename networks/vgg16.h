#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>

#include "nextscale/networks/perceptual_trunk.h"

namespace nextscale {

/// The convolutions of VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D) without its classifier.
/// State-dict names are torchvision's: features.0.weight … features.28.bias.
class Vgg16Impl : public PerceptualTrunk {
 public:
  Vgg16Impl();
  /// Behind the last ReLU of each stage (relu1_2, relu2_2, relu3_3, relu4_3, relu5_3): (B, 64, h, w),
  /// (B, 128, h / 2, w / 2), (B, 256, h / 4, w / 4), (B, 512, h / 8, w / 8), (B, 512, h / 16, w / 16)
  std::vector<torch::Tensor> taps(const torch::Tensor& x) override;
  std::vector<int64_t> widths() const override;
  int64_t smallest_side() const override { return 16; }

 private:
  std::vector<std::vector<torch::nn::Conv2d>> stages_;
};
TORCH_MODULE(Vgg16);

}  // namespace nextscale
