#pragma once

#include <vector>

#include "nextscale/vqvae/layers.h"

namespace nextscale {

/// Pictures to features (reference models/basic_vae.py, Encoder).
/// (B, picture_channels, H, W) -> (B, z_channels, H / 2^(levels-1), W / 2^(levels-1)).
class EncoderImpl : public torch::nn::Module {
 public:
  explicit EncoderImpl(const ConvStackOptions& options);
  torch::Tensor forward(const torch::Tensor& pictures);

 private:
  torch::nn::Conv2d conv_in_{nullptr};
  torch::nn::ModuleList down_{nullptr};
  std::vector<Level> levels_;
  Middle mid_{nullptr};
  torch::nn::GroupNorm norm_out_{nullptr};
  torch::nn::Conv2d conv_out_{nullptr};
};
TORCH_MODULE(Encoder);

}  // namespace nextscale
