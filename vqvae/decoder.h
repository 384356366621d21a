#pragma once

#include <vector>

#include "nextscale/vqvae/layers.h"

namespace nextscale {

/// Features to pictures (reference models/basic_vae.py, Decoder).
/// (B, z_channels, h, w) -> (B, picture_channels, h * 2^(levels-1), w * 2^(levels-1)).
class DecoderImpl : public torch::nn::Module {
 public:
  explicit DecoderImpl(const ConvStackOptions& options);
  torch::Tensor forward(const torch::Tensor& z);

 private:
  torch::nn::Conv2d conv_in_{nullptr};
  Middle mid_{nullptr};
  torch::nn::ModuleList up_{nullptr};
  std::vector<Level> levels_;  // coarse to fine; `up` counts the other way
  torch::nn::GroupNorm norm_out_{nullptr};
  torch::nn::Conv2d conv_out_{nullptr};
};
TORCH_MODULE(Decoder);

}  // namespace nextscale
