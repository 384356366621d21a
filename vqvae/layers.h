#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace nextscale {

/// What encoder and decoder have in common (reference models/basic_vae.py).
struct ConvStackOptions {
  int64_t picture_channels = 3;  // of what enters the encoder and leaves the decoder, folded pixels counted
  int64_t z_channels = 32;       // Cvae
  int64_t ch = 160;
  std::vector<int64_t> ch_mult = {1, 1, 2, 2, 4};
  int64_t res_blocks = 2;  // per level, of this half
  double dropout = 0.0;
  bool attention = true;
  int64_t norm_groups = 32;

  int64_t levels() const { return static_cast<int64_t>(ch_mult.size()); }
  /// Width of level i; level -1 is the first convolution's.
  int64_t width(int64_t level) const { return level < 0 ? ch : ch * ch_mult.at(static_cast<size_t>(level)); }
};

torch::nn::Conv2d square_conv(int64_t in_channels, int64_t out_channels, int64_t kernel, int64_t stride = 1);
torch::nn::GroupNorm group_norm(int64_t groups, int64_t channels);
/// SiLU of the normalised x, the pair in front of every convolution. x and result (B, C, h, w).
torch::Tensor norm_silu(torch::nn::GroupNorm& norm, const torch::Tensor& x);

struct ResidualBlockOptions {
  int64_t in_channels;
  int64_t out_channels;
  int64_t norm_groups = 32;
  double dropout = 0.0;  // probability
};
/// Two times norm, SiLU, 3x3 convolution, added to the input (reference ResnetBlock).
/// (B, in_channels, h, w) -> (B, out_channels, h, w).
class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(const ResidualBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x);
  /// Where dropout's masks are drawn; without it a training forward with dropout fails.
  void use_generator(const at::Generator& generator) { generator_ = generator; }
  /// Training keeps the input alone and runs the block again in the backward pass, with the same masks.
  void set_checkpointing(bool on) { checkpointing_ = on; }

 private:
  torch::Tensor run(const torch::Tensor& x, std::optional<at::Generator>& generator);

  ResidualBlockOptions options_;
  torch::nn::GroupNorm norm1_{nullptr};
  torch::nn::Conv2d conv1_{nullptr};
  torch::nn::GroupNorm norm2_{nullptr};
  torch::nn::Conv2d conv2_{nullptr};
  torch::nn::Conv2d nin_shortcut_{nullptr};  // only where the width changes
  std::optional<at::Generator> generator_;
  bool checkpointing_ = false;
};
TORCH_MODULE(ResidualBlock);

/// One head of attention over all positions, scale C^-0.5, added to the input (reference AttnBlock). (B, C, h, w).
class AttentionBlockImpl : public torch::nn::Module {
 public:
  AttentionBlockImpl(int64_t channels, int64_t norm_groups);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  double scale_;
  torch::nn::GroupNorm norm_{nullptr};
  torch::nn::Conv2d qkv_{nullptr}, proj_out_{nullptr};
};
TORCH_MODULE(AttentionBlock);

/// Pads right and bottom by one, then a 3x3 convolution of stride 2. (B, C, h, w) -> (B, C, h/2, w/2).
class DownsampleImpl : public torch::nn::Module {
 public:
  explicit DownsampleImpl(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::Conv2d conv_{nullptr};
};
TORCH_MODULE(Downsample);

/// Every position four times, then a 3x3 convolution. (B, C, h, w) -> (B, C, 2h, 2w).
class UpsampleImpl : public torch::nn::Module {
 public:
  explicit UpsampleImpl(int64_t channels);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::Conv2d conv_{nullptr};
};
TORCH_MODULE(Upsample);

/// One resolution: residual blocks, each followed by attention where there is any, and a change of resolution.
/// State-dict names: block.N, attn.N, downsample or upsample.
class LevelImpl : public torch::nn::Module {
 public:
  enum class Change { none, down, up };
  LevelImpl(const ConvStackOptions& options, int64_t in_channels, int64_t out_channels, bool attention, Change change);
  torch::Tensor forward(torch::Tensor h);

 private:
  torch::nn::ModuleList block_, attn_;
  std::vector<ResidualBlock> blocks_;
  std::vector<AttentionBlock> attentions_;
  Downsample downsample_{nullptr};
  Upsample upsample_{nullptr};
};
TORCH_MODULE(Level);

/// The part at the lowest resolution: residual block, attention, residual block.
class MiddleImpl : public torch::nn::Module {
 public:
  MiddleImpl(const ConvStackOptions& options, int64_t channels);
  torch::Tensor forward(const torch::Tensor& h);

 private:
  ResidualBlock block_1_{nullptr};
  AttentionBlock attn_1_{nullptr};
  ResidualBlock block_2_{nullptr};
};
TORCH_MODULE(Middle);

}  // namespace nextscale
