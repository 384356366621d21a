#include "nextscale/vqvae/layers.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/upsample_nearest2d.h>

#include "nextscale/base/checkpointed.h"
#include "nextscale/vqvae/norm_silu.h"

namespace nextscale {
namespace {

constexpr double kNormEps = 1e-6;  // the reference's; LibTorch's default of 1e-5 moves features visibly

torch::Tensor drop(const torch::Tensor& x, double probability, std::optional<at::Generator>& generator) {
  TORCH_CHECK(generator.has_value(), "dropout in training needs a generator: call use_generator");
  const auto keep = at::empty_like(x).bernoulli_(1 - probability, *generator);
  return x * keep.div_(1 - probability);
}

}  // namespace

torch::nn::Conv2d square_conv(int64_t in_channels, int64_t out_channels, int64_t kernel, int64_t stride) {
  // Stride 2 comes with its own, one-sided padding (Downsample).
  const int64_t padding = stride == 1 ? kernel / 2 : 0;
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in_channels, out_channels, kernel).stride(stride).padding(padding));
}

torch::nn::GroupNorm group_norm(int64_t groups, int64_t channels) {
  return torch::nn::GroupNorm(torch::nn::GroupNormOptions(groups, channels).eps(kNormEps));
}

torch::Tensor norm_silu(torch::nn::GroupNorm& norm, const torch::Tensor& x) {
  return norm_silu(x, norm->weight, norm->bias, norm->options.num_groups(), norm->options.eps());
}

ResidualBlockImpl::ResidualBlockImpl(const ResidualBlockOptions& options)
    : options_(options),
      norm1_(register_module("norm1", group_norm(options.norm_groups, options.in_channels))),
      conv1_(register_module("conv1", square_conv(options.in_channels, options.out_channels, 3))),
      norm2_(register_module("norm2", group_norm(options.norm_groups, options.out_channels))),
      conv2_(register_module("conv2", square_conv(options.out_channels, options.out_channels, 3))) {
  if (options.in_channels != options.out_channels) {
    nin_shortcut_ = register_module("nin_shortcut", square_conv(options.in_channels, options.out_channels, 1));
  }
}

torch::Tensor ResidualBlockImpl::forward(const torch::Tensor& x) {
  if (!checkpointing_ || !at::GradMode::is_enabled()) return run(x, generator_);
  std::optional<at::Generator> before;
  if (generator_) before = generator_->clone();
  const auto output = checkpointed(
      [this, before](const std::vector<torch::Tensor>& inputs) {
        std::optional<at::Generator> again;
        if (before) again = before->clone();
        return run(inputs[0], again);
      },
      {x});
  if (generator_ && options_.dropout > 0 && is_training()) {
    // The block drew from a copy: the next one's masks must not be the same.
    at::empty_like(output).bernoulli_(1 - options_.dropout, *generator_);
  }
  return output;
}

torch::Tensor ResidualBlockImpl::run(const torch::Tensor& x, std::optional<at::Generator>& generator) {
  auto h = norm_silu(norm2_, conv1_(norm_silu(norm1_, x)));  // (B, out_channels, h, w)
  if (options_.dropout > 0 && is_training()) h = drop(h, options_.dropout, generator);
  h = conv2_(h);
  return nin_shortcut_.is_empty() ? x + h : nin_shortcut_(x) + h;
}

AttentionBlockImpl::AttentionBlockImpl(int64_t channels, int64_t norm_groups)
    : scale_(1 / std::sqrt(static_cast<double>(channels))),
      norm_(register_module("norm", group_norm(norm_groups, channels))),
      qkv_(register_module("qkv", square_conv(channels, 3 * channels, 1))),
      proj_out_(register_module("proj_out", square_conv(channels, channels, 1))) {}

torch::Tensor AttentionBlockImpl::forward(const torch::Tensor& x) {
  const auto qkv = qkv_(norm_(x)).flatten(2).transpose(1, 2).chunk(3, 2);    // 3 of (B, hw, C)
  const auto logits = at::bmm(qkv[0], qkv[1].transpose(1, 2)).mul_(scale_);  // (B, hw, hw)
  const auto h = at::bmm(at::softmax(logits, 2), qkv[2]).transpose(1, 2);    // (B, C, hw)
  return x + proj_out_(h.reshape(x.sizes()));
}

DownsampleImpl::DownsampleImpl(int64_t channels)
    : conv_(register_module("conv", square_conv(channels, channels, 3, 2))) {}

torch::Tensor DownsampleImpl::forward(const torch::Tensor& x) { return conv_(at::constant_pad_nd(x, {0, 1, 0, 1})); }

UpsampleImpl::UpsampleImpl(int64_t channels) : conv_(register_module("conv", square_conv(channels, channels, 3))) {}

torch::Tensor UpsampleImpl::forward(const torch::Tensor& x) {
  return conv_(at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}));
}

LevelImpl::LevelImpl(const ConvStackOptions& options, int64_t in_channels, int64_t out_channels, bool attention,
                     Change change)
    : block_(register_module("block", torch::nn::ModuleList())),
      attn_(register_module("attn", torch::nn::ModuleList())) {
  int64_t width = in_channels;
  for (int64_t i = 0; i < options.res_blocks; ++i) {
    blocks_.emplace_back(ResidualBlockOptions{width, out_channels, options.norm_groups, options.dropout});
    block_->push_back(blocks_.back());
    width = out_channels;
    if (!attention) continue;
    attentions_.emplace_back(width, options.norm_groups);
    attn_->push_back(attentions_.back());
  }
  if (change == Change::down) downsample_ = register_module("downsample", Downsample(width));
  if (change == Change::up) upsample_ = register_module("upsample", Upsample(width));
}

torch::Tensor LevelImpl::forward(torch::Tensor h) {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    h = blocks_[i](h);
    if (!attentions_.empty()) h = attentions_[i](h);
  }
  if (!downsample_.is_empty()) h = downsample_(h);
  if (!upsample_.is_empty()) h = upsample_(h);
  return h;
}

MiddleImpl::MiddleImpl(const ConvStackOptions& options, int64_t channels) {
  const ResidualBlockOptions block{channels, channels, options.norm_groups, options.dropout};
  block_1_ = register_module("block_1", ResidualBlock(block));
  if (options.attention) attn_1_ = register_module("attn_1", AttentionBlock(channels, options.norm_groups));
  block_2_ = register_module("block_2", ResidualBlock(block));
}

torch::Tensor MiddleImpl::forward(const torch::Tensor& h) {
  const auto first = block_1_(h);
  return block_2_(attn_1_.is_empty() ? first : attn_1_(first));
}

}  // namespace nextscale
