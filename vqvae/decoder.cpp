#include "nextscale/vqvae/decoder.h"

namespace nextscale {

DecoderImpl::DecoderImpl(const ConvStackOptions& options) {
  const int64_t lowest = options.levels() - 1;
  int64_t width = options.width(lowest);
  conv_in_ = register_module("conv_in", square_conv(options.z_channels, width, 3));
  mid_ = register_module("mid", Middle(options, width));
  up_ = register_module("up", torch::nn::ModuleList());
  for (int64_t i = lowest; i >= 0; --i) {
    const auto change = i == 0 ? LevelImpl::Change::none : LevelImpl::Change::up;
    levels_.emplace_back(options, width, options.width(i), options.attention && i == lowest, change);
    if (options.res_blocks > 0) width = options.width(i);
  }
  for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) up_->push_back(*level);
  norm_out_ = register_module("norm_out", group_norm(options.norm_groups, width));
  conv_out_ = register_module("conv_out", square_conv(width, options.picture_channels, 3));
}

torch::Tensor DecoderImpl::forward(const torch::Tensor& z) {
  auto h = mid_(conv_in_(z));  // (B, width of the lowest level, h, w)
  for (auto& level : levels_) h = level(h);
  return conv_out_(norm_silu(norm_out_, h));  // (B, picture_channels, H, W)
}

}  // namespace nextscale
