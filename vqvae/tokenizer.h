#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/file_operations.h"
#include "nextscale/vqvae/decoder.h"
#include "nextscale/vqvae/encoder.h"
#include "nextscale/vqvae/residual_quantizer.h"

namespace nextscale {

struct TokenizerOptions {
  QuantizerOptions quantizer;
  int64_t channels = 3;                            // of the pictures
  int64_t ch = 160;                                // width of the first level
  std::vector<int64_t> ch_mult = {1, 1, 2, 2, 4};  // width of each level in ch; every further level halves the side
  int64_t res_blocks = 2;                          // per level of the encoder (reference num_res_blocks)
  int64_t decoder_res_blocks = 0;                  // per level of the decoder; 0 = one more than the encoder
  double dropout = 0.0;
  bool attention = true;                  // at the lowest level and in the middle
  int64_t norm_groups = 32;               // GroupNorm
  int64_t space_to_depth = 1;             // pixels folded into channels before the encoder and after the decoder
  std::string initial_values = "xavier";  // of a fresh tokenizer's convolutions

  static constexpr auto table() {
    using O = TokenizerOptions;
    return std::tuple{
        option("channels", &O::channels, "channels of the pictures", between(1, 4)),
        option("ch", &O::ch, "width of the tokenizer's first level", between(1, 4096)),
        option("ch_mult", &O::ch_mult,
               "width of each level in units of ch; every level after the first halves the side", between(1, 64)),
        option("res_blocks", &O::res_blocks, "residual blocks per level of the encoder", between(0, 64)),
        option("decoder_res_blocks", &O::decoder_res_blocks,
               "residual blocks per level of the decoder; 0 = res-blocks + 1", between(0, 64)),
        option("dropout", &O::dropout, "dropout in the residual blocks", between(0.0, 0.9)),
        option("attention", &O::attention, "attention at the lowest level and in the middle"),
        option("norm_groups", &O::norm_groups, "groups of GroupNorm; must divide every level's width",
               between(1, 1024)),
        option("space_to_depth", &O::space_to_depth,
               "block of pixels that is folded into channels before the encoder and unfolded after the decoder",
               between(1, 16)),
        option(
            "initial_values", &O::initial_values,
            "of a fresh tokenizer's convolutions: xavier (normal, gain 0.5, biases 0) or uniform (LibTorch's default)",
            one_of("xavier", "uniform")),
    };
  }

  /// Pixels per feature-map cell: space_to_depth * 2^(levels - 1).
  int64_t downsample() const;
  int64_t picture_side() const { return downsample() * quantizer.sides.back(); }
  /// How many pictures to encode or decode at once without gradients, so that activations stay below about 100 MB on a
  /// CPU, where more at once gain nothing (docs/benchmarks.md), and 4 GB on a GPU. At least 1, at most 256.
  int64_t pictures_at_once(const at::Device& device) const;
};
/// Rows of both structs; for CLI and JSON.
std::vector<BoundOption> bind_tokenizer_options(TokenizerOptions& options);
/// Relations between options. @throws Error usage
void check_together(const TokenizerOptions& options);
/// "paper" (ch160v4096z32, published for 256 and 512 px) and "vqgan" (the same with ch 128) take pictures of 64 to 1024
/// px, a multiple of 16; "fast" pictures of 16 to 64 px, a multiple of 4, to feature maps of a quarter of the side.
/// Where no sides are published they grow by about a third.
/// @throws Error usage for another name, or a side that the preset cannot take
TokenizerOptions tokenizer_preset(const std::string& name, int64_t picture_side, int64_t channels);

struct TokenizerOutput {
  torch::Tensor pictures;  ///< (B, channels, H, W) float32, not clamped
  QuantizerOutput quantized;
};

/// The multi-scale VQ-VAE (VAR paper, section 3.2; reference models/vqvae.py, VQVAE).
/// State-dict names: encoder.…, decoder.…, quantize.…, quant_conv.…, post_quant_conv.…
class TokenizerImpl : public torch::nn::Module {
 public:
  /// @throws Error usage for options that do not fit together
  explicit TokenizerImpl(const TokenizerOptions& options);

  const TokenizerOptions& options() const { return options_; }
  const Scales& scales() const { return quantize_->scales(); }
  ResidualQuantizer quantizer() const { return quantize_; }

  /// Values of a fresh tokenizer: convolutions by `initial_values`, norms 1 and 0, codebook uniform within
  /// 1 / (36 sqrt(Cvae)). A constructor's values come from LibTorch's global generator and are not meant to be kept.
  void initialise(at::Generator generator);
  /// Where dropout's masks are drawn while training.
  void use_generator(const at::Generator& generator);
  /// Training keeps the inputs of residual blocks alone and runs them again in the backward pass: the same gradients, a
  /// fraction of the memory.
  void set_checkpointing(bool on);

  /// Training. Convolutions follow the caller's autocast, the quantizer is float32.
  /// @param pictures (B, channels, H, W) in [-1, 1]
  /// @param scales_used decode only the first n scales (quantizer dropout); 0 = all
  TokenizerOutput forward(const torch::Tensor& pictures, int64_t scales_used = 0);
  /// Start-up without codes (ResidualQuantizer::forward_continuous).
  TokenizerOutput forward_continuous(const torch::Tensor& pictures);
  /// f after quant_conv, (B, Cvae, h, w) float32.
  torch::Tensor features(const torch::Tensor& pictures);
  /// (B, channels, H, W) -> (B, L) int64.
  torch::Tensor encode(const torch::Tensor& pictures);
  /// f_hat (B, Cvae, h, w) -> pictures, float32, not clamped.
  torch::Tensor decode_raw(const torch::Tensor& f_hat);
  /// f_hat -> pictures clamped to [-1, 1] (reference fhat_to_img).
  torch::Tensor decode_features(const torch::Tensor& f_hat);
  /// (B, L) -> pictures in [-1, 1].
  torch::Tensor decode(const torch::Tensor& tokens);
  /// The picture after each scale: K tensors (B, channels, H, W).
  std::vector<torch::Tensor> decode_per_scale(const torch::Tensor& tokens);

 private:
  TokenizerOptions options_;
  Encoder encoder_{nullptr};
  Decoder decoder_{nullptr};
  ResidualQuantizer quantize_{nullptr};
  torch::nn::Conv2d quant_conv_{nullptr}, post_quant_conv_{nullptr};
};
TORCH_MODULE(Tokenizer);

/// What the user says of a file that carries no config (options of every verb that loads one).
struct TokenizerHints {
  std::optional<std::vector<int64_t>> sides;
  std::vector<int64_t> fallback_sides;  ///< of the transformer that goes with it, where neither file nor user says more
  std::optional<bool> znorm;
  std::optional<double> quant_resi;
  std::optional<int64_t> norm_groups;
};

/// Of our files (format nextscale.tokenizer, the options as JSON in the metadata), of state dicts of the reference
/// (safetensors or .pth), and of whole checkpoints of its trainer (trainer.vae_local). Without a config in the file the
/// options follow from names and shapes (vqvae/tokenizer_from_weights.h).
/// @param file_or_run a file, or a run's folder (io/checkpoint resolve_weights_path)
/// @returns in eval mode
/// @throws Error failure if it holds no tokenizer, or its config and its weights do not agree; usage if a hint
/// contradicts the file
Tokenizer load_tokenizer(const std::filesystem::path& file_or_run, bool raw = false, const TokenizerHints& hints = {});
/// @param weights state dict to store instead of the module's own (EMA); empty = its own
void save_tokenizer(const std::filesystem::path& path, const Tokenizer& tokenizer, const NamedTensors& weights = {},
                    FileOperations& operations = system_files());

}  // namespace nextscale
