#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/networks/folded_convolution.h"

namespace nextscale {

struct SamePadding {
  int64_t before = 0, after = 0;
  bool operator==(const SamePadding&) const = default;
};
/// TensorFlow's SAME: zeros for ceil(length / stride) outputs, the odd one behind.
SamePadding same_padding(int64_t length, int64_t kernel, int64_t stride);

struct Lite0ConvolutionOptions {
  int64_t in, out;
  int64_t kernel = 1;
  int64_t stride = 1;
  bool depthwise = false;
};

/// A convolution padded as by TensorFlow and its norm, which stand side by side in the state dict: no module.
class Lite0Convolution {
 public:
  Lite0Convolution(torch::nn::Module& parent, const char* conv, const char* norm,
                   const Lite0ConvolutionOptions& options);
  /// (B, in, h, w) -> (B, out, ceil(h / stride), ceil(w / stride))
  torch::Tensor operator()(const torch::Tensor& x);
  void fold() { folded_ = folded(conv_->weight, norm_); }
  bool folded_elsewhere(c10::Device device) const;

 private:
  torch::nn::Conv2d conv_;
  torch::nn::BatchNorm2d norm_;
  FoldedWeights folded_;  // undefined before fold()
};

struct Lite0BlockOptions {
  int64_t in, out;
  int64_t kernel, stride, expansion;
};

/// Inverted residual without squeeze-and-excitation: wider (not with expansion 1), a convolution a channel, narrower.
class Lite0BlockImpl : public torch::nn::Module {
 public:
  explicit Lite0BlockImpl(const Lite0BlockOptions& options);
  /// (B, in, h, w) -> (B, out, h', w')
  torch::Tensor forward(const torch::Tensor& x);
  void fold();

 private:
  std::optional<Lite0Convolution> expand_;
  Lite0Convolution depthwise_, project_;
  bool skips_;
};
TORCH_MODULE(Lite0Block);

/// EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6): a classifier
/// of ImageNet's 1000 classes (WordNet ids, sorted). State-dict names are those of efficientnet_lite_pytorch:
/// _conv_stem.weight … _fc.bias.
class EfficientNetLite0Impl : public torch::nn::Module {
 public:
  static constexpr int64_t kShorterSide = 256, kSide = 224;  ///< resized bicubically to the first, cut to the second
  static constexpr int64_t kFeatureWidth = 1280, kClasses = 1000;

  EfficientNetLite0Impl();
  /// @param pictures (B, 3, h, w) float32 as lite0_range gives them; trained with h = w = kSide
  /// @returns (B, kFeatureWidth), means over the last map
  torch::Tensor features(const torch::Tensor& pictures);
  /// (B, kFeatureWidth) -> (B, kClasses)
  torch::Tensor logits(const torch::Tensor& features);
  /// The first convolution alone: (B, 3, h, w) -> (B, 32, h / 2, w / 2)
  torch::Tensor stem(const torch::Tensor& pictures);
  /// Batch norms go into the convolutions before them; the state dict stays as it is. Call again when weights have
  /// changed; a network that was moved to another device folds itself again.
  void fold();

 private:
  Lite0Convolution stem_;
  std::vector<Lite0Block> blocks_;
  Lite0Convolution head_;
  torch::nn::Linear fc_;
};
TORCH_MODULE(EfficientNetLite0);

/// RGB values 0..255 of any type -> (x - 127) / 128, float32
torch::Tensor lite0_range(const torch::Tensor& pictures);

/// Reads efficientnet-lite0-57934424.pth or a safetensors file of the same names, with or without num_batches_tracked.
/// @returns the network, folded, in evaluation mode
/// @throws Error failure naming file and entry: missing, extra, another shape, values that are not finite
EfficientNetLite0 load_efficientnet_lite0(const std::filesystem::path& path);

}  // namespace nextscale
