#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace nextscale {

/// The published network unless changed; smaller ones are for tests.
struct DinoOptions {
  int64_t side = 224;   ///< of the pictures it was trained with, in pixels
  int64_t patch = 16;   ///< side of a patch
  int64_t width = 384;  ///< C
  int64_t depth = 12;   ///< blocks, a multiple of 4
  int64_t heads = 6;
  /// DINO itself has the exact form (erf); a published tokenizer training looks at it through the approximate one.
  enum class Gelu { tanh, erf } gelu = Gelu::tanh;
};

/// A block of the vision transformer: attention and feed-forward, each behind its LayerNorm and added to its input.
class DinoBlockImpl : public torch::nn::Module {
 public:
  explicit DinoBlockImpl(const DinoOptions& options);
  /// (B, N, C) -> (B, N, C)
  torch::Tensor forward(const torch::Tensor& x);

 private:
  int64_t heads_;
  DinoOptions::Gelu gelu_;
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  torch::nn::Linear qkv_{nullptr}, proj_{nullptr}, fc1_{nullptr}, fc2_{nullptr};
};
TORCH_MODULE(DinoBlock);

/// DINO's ViT-S/16 (Caron et al. 2021, arXiv 2104.14294): a vision transformer that learned without labels. Frozen:
/// gradients reach the pictures, never the weights. State-dict names are the published ones: cls_token, pos_embed,
/// patch_embed.proj.weight … norm.bias.
class DinoImpl : public torch::nn::Module {
 public:
  static constexpr int64_t kTaps = 5;

  explicit DinoImpl(const DinoOptions& options = {});
  const DinoOptions& options() const { return options_; }

  /// What a discriminator looks at: the tokens before the first block and after each quarter of the blocks (2, 5, 8 and
  /// 11 of 12, counted from 0), the class token added to each patch's.
  /// @param pictures (B, 3, h, w) as dino_prepare gives them, sides multiples of the patch
  /// @returns kTaps tensors (B, C, h / patch * w / patch), float32 under autocast too
  /// @throws Error failure for sides that are no multiples
  std::vector<torch::Tensor> taps(const torch::Tensor& pictures);
  /// DINO's own answer: the class token behind the last LayerNorm. (B, 3, h, w) -> (B, C)
  torch::Tensor class_token(const torch::Tensor& pictures);

 private:
  /// (B, 3, h, w) -> (B, 1 + N, C), position embedding added
  torch::Tensor tokens(const torch::Tensor& pictures);

  DinoOptions options_;
  torch::Tensor cls_token_, pos_embed_;  // (1, 1, C), (1, 1 + (side / patch)^2, C)
  torch::nn::Conv2d proj_{nullptr};
  std::vector<DinoBlock> blocks_;
  torch::nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(Dino);

/// How a position embedding is brought to another grid: to its size, or as DINO's own code does, by a factor that is a
/// tenth of a token too large (so that it never rounds down).
enum class PositionResize { bilinear, bicubic_scale };
/// (1, 1 + n * n, C) -> (1, 1 + rows * columns, C); the class token's row stays. The same grid comes back as it is.
torch::Tensor dino_position(const torch::Tensor& embedding, int64_t rows, int64_t columns,
                            PositionResize resize = PositionResize::bilinear);

struct DinoCrop {
  int64_t top, left;
};
/// For pictures higher than `side`, with probability 1/2: where a random side x side part of the batch lies. Takes
/// three numbers from `draws` then, none for smaller pictures and those that are too narrow.
std::optional<DinoCrop> draw_dino_crop(int64_t height, int64_t width, at::Generator draws, int64_t side = 224);

/// From [-1, 1] to what the network was trained with: side x side, ImageNet's mean and standard deviation. Pictures
/// higher than `side` are cut if there is a crop and else shrunk by areas; all others are resized bicubically.
/// @param pictures (B, 3 or 1, h, w); a grey picture is repeated
/// @returns (B, 3, side, side), float32 at least
/// @throws Error failure for other channels or a crop that leaves the picture
torch::Tensor dino_prepare(const torch::Tensor& pictures, const std::optional<DinoCrop>& crop = {}, int64_t side = 224);

/// Reads dino_deitsmall16_pretrain.pth or a safetensors file of the same names.
/// @throws Error failure naming file and entry: missing, extra, another shape, values that are not finite; for a file
/// that is not there also the command that fetches it
Dino load_dino(const std::filesystem::path& path, DinoOptions::Gelu gelu = DinoOptions::Gelu::tanh);

}  // namespace nextscale
