#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nextscale/base/options.h"
#include "nextscale/base/state_dict.h"

namespace nextscale {

struct ClassifierOptions {
  int64_t classes = 10;
  int64_t channels = 3;
  int64_t side = 32;
  std::vector<int64_t> widths = {24, 32, 48, 64, 96};
  int64_t feature_width = 64;

  static constexpr auto table() {
    using O = ClassifierOptions;
    return std::tuple{
        option("classes", &O::classes, "number of classes", between(1, 1 << 20)),
        option("channels", &O::channels, "channels of the pictures", between(1, 4)),
        option("side", &O::side, "side of the pictures", between(1, 4096)),
        option("widths", &O::widths, "channels of the convolutions", between(1, 4096)),
        option("feature_width", &O::feature_width, "width of the features before the last layer", between(1, 65536)),
    };
  }
};

/// The project's own small judge: a plain convolutional classifier whose features also give a Fréchet distance.
class ClassifierImpl : public torch::nn::Module {
 public:
  explicit ClassifierImpl(const ClassifierOptions& options);
  const ClassifierOptions& options() const { return options_; }
  /// (B, channels, side, side) in [-1, 1] -> (B, classes)
  torch::Tensor forward(const torch::Tensor& pictures);
  /// (B, feature_width), non-negative
  torch::Tensor features(const torch::Tensor& pictures);

 private:
  ClassifierOptions options_;
};
TORCH_MODULE(Classifier);

/// One safetensors file, format nextscale.classifier, class names in the metadata ("class_names", a JSON list).
Classifier load_classifier(const std::filesystem::path& file_or_run);
void save_classifier(const std::filesystem::path& path, const Classifier& classifier, const std::vector<std::string>& class_names,
                     const NamedTensors& weights = {});

}  // namespace nextscale
