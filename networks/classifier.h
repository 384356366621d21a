#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {

struct ClassifierOptions {
  int64_t classes = 10;
  int64_t channels = 3;
  int64_t side = 32;
  int64_t fold = 1;
  std::vector<int64_t> widths = {24, 32, 48, 64, 96};
  int64_t feature_width = 64;

  static constexpr auto table() {
    using O = ClassifierOptions;
    return std::tuple{
        option("classes", &O::classes, "number of classes", between(1, 1 << 20)),
        option("channels", &O::channels, "channels of the pictures", between(1, 4)),
        option("side", &O::side, "side of the pictures", between(1, 4096)),
        option("fold", &O::fold,
               "blocks of so many pixels square become channels before the first convolution; 1 = none", between(1, 8)),
        option("widths", &O::widths, "channels of the convolutions", between(1, 4096)),
        option("feature_width", &O::feature_width, "width of the features before the last layer", between(1, 65536)),
    };
  }
};

/// The project's own small judge: a plain convolutional classifier whose features also give a Fréchet distance.
/// Folding (if any), then 3x3 convolutions, each with batch norm
/// and ReLU and a 2x2 max pool after every second, the mean over the map, a linear layer with ReLU (features) and one
/// more (logits). State-dict names: conv_I.weight, norm_I.…, feature.…, head.…
class ClassifierImpl : public torch::nn::Module {
 public:
  explicit ClassifierImpl(const ClassifierOptions& options);
  const ClassifierOptions& options() const { return options_; }
  /// (B, channels, side, side) in [-1, 1] -> (B, classes)
  torch::Tensor forward(const torch::Tensor& pictures);
  /// (B, feature_width), non-negative
  torch::Tensor features(const torch::Tensor& pictures);
  /// The last layer alone: (B, feature_width) -> (B, classes)
  torch::Tensor logits(const torch::Tensor& features);

 private:
  ClassifierOptions options_;
  std::vector<torch::nn::Conv2d> convs_;
  std::vector<torch::nn::BatchNorm2d> norms_;
  torch::nn::Linear feature_{nullptr}, head_{nullptr};
};
TORCH_MODULE(Classifier);

/// One safetensors file, format nextscale.classifier, class names in the metadata ("class_names", a JSON list).
/// @param file_or_run a file, or a run's folder (io/checkpoint resolve_weights_path)
/// @returns the network in evaluation mode
/// @throws Error failure naming the file: not there, another format, damaged
Classifier load_classifier(const std::filesystem::path& file_or_run);
/// The class names beside the weights, by index; empty where the file holds none.
/// @throws Error failure naming the file, also if their number is not that of the classes
std::vector<std::string> load_class_names(const std::filesystem::path& file_or_run);
/// @param weights state dict to store instead of the network's own; empty = its own
void save_classifier(const std::filesystem::path& path, const Classifier& classifier,
                     const std::vector<std::string>& class_names, const NamedTensors& weights = {},
                     FileOperations& operations = system_files());

}  // namespace nextscale
