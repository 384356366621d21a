#include "nextscale/vqvae/tokenizer.h"

#include <cmath>

#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/pixel_unshuffle.h>

#include "nextscale/base/error.h"
#include "nextscale/vqvae/codebook.h"

namespace nextscale {
namespace {

ConvStackOptions stack(const TokenizerOptions& options, int64_t res_blocks) {
  return {.picture_channels = options.channels * options.space_to_depth * options.space_to_depth,
          .z_channels = options.quantizer.code_width,
          .ch = options.ch,
          .ch_mult = options.ch_mult,
          .res_blocks = res_blocks,
          .dropout = options.dropout,
          .attention = options.attention,
          .norm_groups = options.norm_groups};
}

TokenizerOptions checked(const TokenizerOptions& options) {
  check_together(options);
  return options;
}

int64_t decoder_blocks(const TokenizerOptions& options) {
  return options.decoder_res_blocks > 0 ? options.decoder_res_blocks : options.res_blocks + 1;
}

void initialise_conv(torch::nn::Conv2dImpl& conv, const std::string& kind, at::Generator& generator) {
  const auto fan_in = static_cast<double>(conv.weight.numel() / conv.weight.size(0));
  if (kind == "uniform") {  // Kaiming-uniform with a = sqrt(5), in short
    conv.weight.uniform_(-1 / std::sqrt(fan_in), 1 / std::sqrt(fan_in), generator);
    conv.bias.uniform_(-1 / std::sqrt(fan_in), 1 / std::sqrt(fan_in), generator);
    return;
  }
  constexpr double kGain = 0.5;
  const auto fan_out = static_cast<double>(conv.weight.numel() / conv.weight.size(1));
  conv.weight.normal_(0, kGain * std::sqrt(2 / (fan_in + fan_out)), generator);
  conv.bias.zero_();
}

}  // namespace

TokenizerImpl::TokenizerImpl(const TokenizerOptions& options)
    : options_(checked(options)),
      encoder_(register_module("encoder", Encoder(stack(options, options.res_blocks)))),
      decoder_(register_module("decoder", Decoder(stack(options, decoder_blocks(options))))),
      quantize_(register_module("quantize", ResidualQuantizer(options.quantizer))),
      quant_conv_(
          register_module("quant_conv", square_conv(options.quantizer.code_width, options.quantizer.code_width, 3))),
      post_quant_conv_(register_module("post_quant_conv",
                                       square_conv(options.quantizer.code_width, options.quantizer.code_width, 3))) {}

void TokenizerImpl::initialise(at::Generator generator) {
  const at::NoGradGuard no_grad;
  for (const auto& module : modules()) {
    if (auto* conv = module->as<torch::nn::Conv2dImpl>()) initialise_conv(*conv, options_.initial_values, generator);
    if (auto* norm = module->as<torch::nn::GroupNormImpl>()) {
      norm->weight.fill_(1);
      norm->bias.zero_();
    }
  }
  start_codebook_uniform(quantize_->codebook(), generator);
}

void TokenizerImpl::use_generator(const at::Generator& generator) {
  for (const auto& module : modules()) {
    if (auto* block = module->as<ResidualBlockImpl>()) block->use_generator(generator);
  }
}

void TokenizerImpl::set_checkpointing(bool on) {
  for (const auto& module : modules()) {
    if (auto* block = module->as<ResidualBlockImpl>()) block->set_checkpointing(on);
  }
}

TokenizerOutput TokenizerImpl::forward(const torch::Tensor& pictures, int64_t scales_used) {
  auto quantized = quantize_(features(pictures), scales_used);
  return {decode_raw(quantized.f_hat), quantized};
}

TokenizerOutput TokenizerImpl::forward_continuous(const torch::Tensor& pictures) {
  auto quantized = quantize_->forward_continuous(features(pictures));
  return {decode_raw(quantized.f_hat), quantized};
}

torch::Tensor TokenizerImpl::features(const torch::Tensor& pictures) {
  if (pictures.dim() != 4 || pictures.size(1) != options_.channels || pictures.size(2) % options_.downsample() != 0 ||
      pictures.size(3) % options_.downsample() != 0) {
    throw failure({"pictures", "shape differs",
                   "(B, " + std::to_string(options_.channels) + ", H, W), H and W multiples of " +
                       std::to_string(options_.downsample()),
                   shape_text(pictures.sizes())});
  }
  const int64_t block = options_.space_to_depth;
  const auto folded = block > 1 ? at::pixel_unshuffle(pictures, block) : pictures;  // (B, channels * block^2, …)
  // Channels-last convolutions need no reordering around them, and norm_silu has its fast form there.
  return quant_conv_(encoder_(folded.contiguous(at::MemoryFormat::ChannelsLast))).to(at::kFloat);
}

torch::Tensor TokenizerImpl::encode(const torch::Tensor& pictures) {
  const at::NoGradGuard no_grad;
  return quantize_->encode(features(pictures));
}

torch::Tensor TokenizerImpl::decode_raw(const torch::Tensor& f_hat) {
  const auto folded = decoder_(post_quant_conv_(f_hat.contiguous(at::MemoryFormat::ChannelsLast))).to(at::kFloat);
  const int64_t block = options_.space_to_depth;
  return block > 1 ? at::pixel_shuffle(folded, block) : folded;
}

torch::Tensor TokenizerImpl::decode_features(const torch::Tensor& f_hat) { return decode_raw(f_hat).clamp(-1, 1); }

torch::Tensor TokenizerImpl::decode(const torch::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  return decode_features(quantize_->decode(tokens));
}

std::vector<torch::Tensor> TokenizerImpl::decode_per_scale(const torch::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  std::vector<torch::Tensor> pictures;
  for (const auto& f_hat : quantize_->decode_per_scale(tokens)) pictures.push_back(decode_features(f_hat));
  return pictures;
}

}  // namespace nextscale
