#include "nextscale/vqvae/encoder.h"

namespace nextscale {

EncoderImpl::EncoderImpl(const ConvStackOptions& options)
    : conv_in_(register_module("conv_in", square_conv(options.picture_channels, options.ch, 3))),
      down_(register_module("down", torch::nn::ModuleList())) {
  const int64_t lowest = options.levels() - 1;
  int64_t width = options.ch;
  for (int64_t i = 0; i <= lowest; ++i) {
    const auto change = i == lowest ? LevelImpl::Change::none : LevelImpl::Change::down;
    levels_.emplace_back(options, width, options.width(i), options.attention && i == lowest, change);
    down_->push_back(levels_.back());
    if (options.res_blocks > 0) width = options.width(i);  // a level without blocks cannot change the width
  }
  mid_ = register_module("mid", Middle(options, width));
  norm_out_ = register_module("norm_out", group_norm(options.norm_groups, width));
  conv_out_ = register_module("conv_out", square_conv(width, options.z_channels, 3));
}

torch::Tensor EncoderImpl::forward(const torch::Tensor& pictures) {
  auto h = conv_in_(pictures);  // (B, ch, H, W)
  for (auto& level : levels_) h = level(h);
  return conv_out_(norm_silu(norm_out_, mid_(h)));  // (B, z_channels, h, w)
}

}  // namespace nextscale
