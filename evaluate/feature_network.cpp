#include "nextscale/evaluate/feature_network.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "nextscale/base/error.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/picture.h"
#include "nextscale/evaluate/resizes.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/networks/efficientnet_lite0.h"
#include "nextscale/networks/inception.h"

namespace nextscale {
namespace {

constexpr int64_t kInceptionSide = 299;

class InceptionNetwork : public FeatureNetwork {
 public:
  InceptionNetwork(Inception network, const Protocol& protocol, c10::Device device)
      : network_(std::move(network)), protocol_(protocol), device_(device) {
    network_->to(device);
    network_->fold();
  }
  std::string name() const override { return "FID-InceptionV3 (2015-12-05), pool of 2048"; }
  std::string distance() const override { return "FID"; }
  int64_t width() const override { return 2048; }
  bool has_spatial() const override { return true; }
  bool has_scores() const override { return true; }

  std::vector<int64_t> prepared_shape(int64_t height, int64_t width) const override {
    if (protocol_.resize == Resize::half_pixel) return {height, width, 3};
    return {kInceptionSide, kInceptionSide, 3};
  }
  void prepare(const at::Tensor& picture, float* out) const override {
    if (protocol_.resize == Resize::half_pixel) {  // resized by the library, all
                                                   // pictures of a batch at once
      const auto whole = picture.contiguous();
      const auto* values = whole.const_data_ptr<uint8_t>();
      std::transform(values, values + whole.numel(), out, [](uint8_t v) { return static_cast<float>(v) / 255.0f; });
      return;
    }
    if (protocol_.resize == Resize::tensorflow) resize_as_tensorflow(picture, kInceptionSide, out);
    if (protocol_.resize == Resize::pillow) resize_as_pillow(picture, kInceptionSide, out);
    const auto zero = static_cast<float>(protocol_.zero), share = static_cast<float>(1 / protocol_.unit);
    std::transform(out, out + kInceptionSide * kInceptionSide * 3, out, [&](float v) { return (v - zero) * share; });
  }
  FeatureBatch run(const at::Tensor& prepared) override {
    const at::NoGradGuard no_grad;
    const FullPrecision full;
    auto pictures = prepared.to(device_).permute({0, 3, 1, 2});  // (B, 3, H, W), channels last
    if (protocol_.resize == Resize::half_pixel) {
      pictures = resize_half_pixel(pictures.contiguous(), kInceptionSide).mul_(2).sub_(1);
    }
    const auto features = network_(pictures);
    const auto logits = network_->logits_unbiased(features.pool);
    return {.features = features.pool.cpu(),
            .spatial = features.spatial.cpu(),
            .logits = logits.cpu(),
            .predicted = logits.argmax(1).cpu()};
  }

 private:
  Inception network_;
  const Protocol& protocol_;
  c10::Device device_;
};

/// What a network with features() and logits() says. @param prepared (B, H, W, C) on its device
template <class Network>
FeatureBatch seen_by(Network& network, const at::Tensor& prepared) {
  const at::NoGradGuard no_grad;
  const FullPrecision full;
  const auto features = network.features(prepared.permute({0, 3, 1, 2}));
  const auto logits = network.logits(features);
  return {.features = features.cpu(), .spatial = {}, .logits = logits.cpu(), .predicted = logits.argmax(1).cpu()};
}

class Lite0Network : public FeatureNetwork {
 public:
  Lite0Network(EfficientNetLite0 network, c10::Device device) : network_(std::move(network)), device_(device) {
    network_->to(device);
  }
  std::string name() const override { return "EfficientNet-Lite0 (ImageNet), pool of 1280"; }
  std::string distance() const override { return "FD-lite0"; }
  int64_t width() const override { return EfficientNetLite0Impl::kFeatureWidth; }
  std::vector<int64_t> prepared_shape(int64_t, int64_t) const override {
    return {EfficientNetLite0Impl::kSide, EfficientNetLite0Impl::kSide, 3};
  }
  void prepare(const at::Tensor& picture, float* out) const override {
    const auto cut = center_square(picture, EfficientNetLite0Impl::kShorterSide, EfficientNetLite0Impl::kSide,
                                   Filter::bicubic)
                         .contiguous();  // (224, 224, 3)
    const auto* values = cut.const_data_ptr<uint8_t>();
    std::transform(values, values + cut.numel(), out, [](uint8_t v) { return (static_cast<float>(v) - 127) / 128; });
  }
  FeatureBatch run(const at::Tensor& prepared) override { return seen_by(*network_, prepared.to(device_)); }

 private:
  EfficientNetLite0 network_;
  c10::Device device_;
};

class ClassifierNetwork : public FeatureNetwork {
 public:
  ClassifierNetwork(Classifier network, std::string where, c10::Device device)
      : network_(std::move(network)), where_(std::move(where)), device_(device) {
    network_->to(device);
    network_->eval();
  }
  std::string name() const override { return "classifier " + where_; }
  std::string distance() const override { return "FD-classifier"; }
  int64_t width() const override { return network_->options().feature_width; }
  std::vector<int64_t> prepared_shape(int64_t height, int64_t width) const override {
    const int64_t side = network_->options().side;
    if (height != side || width != side) {
      throw failure({where_,
                     "the classifier was trained on pictures of another size "
                     "(--side N brings them to it)",
                     shape_text(std::vector<int64_t>{side, side}), shape_text(std::vector<int64_t>{height, width})});
    }
    return {side, side, network_->options().channels};
  }
  void prepare(const at::Tensor& picture, float* out) const override {
    const auto values = with_channels(picture, network_->options().channels).contiguous();
    const auto* in = values.const_data_ptr<uint8_t>();
    std::transform(in, in + values.numel(), out, [](uint8_t v) {
      const float unit = static_cast<float>(v) / 255.0f;
      return unit + unit - 1.0f;
    });
  }
  FeatureBatch run(const at::Tensor& prepared) override { return seen_by(*network_, prepared.to(device_)); }

 private:
  Classifier network_;
  std::string where_;
  c10::Device device_;
};

}  // namespace

std::unique_ptr<FeatureNetwork> open_inception(const std::filesystem::path& weights, const Protocol& protocol,
                                               c10::Device device) {
  return std::make_unique<InceptionNetwork>(load_inception(weights), protocol, device);
}

std::unique_ptr<FeatureNetwork> open_efficientnet_lite0(const std::filesystem::path& weights, c10::Device device) {
  return std::make_unique<Lite0Network>(load_efficientnet_lite0(weights), device);
}

std::unique_ptr<FeatureNetwork> open_classifier(const std::filesystem::path& file_or_run, c10::Device device) {
  return std::make_unique<ClassifierNetwork>(load_classifier(file_or_run), file_or_run.string(), device);
}

FullPrecision::FullPrecision()
    : convolutions_(at::globalContext().allowTF32CuDNN()), products_(at::globalContext().allowTF32CuBLAS()) {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
}

FullPrecision::~FullPrecision() {
  at::globalContext().setAllowTF32CuDNN(convolutions_);
  at::globalContext().setAllowTF32CuBLAS(products_);
}

}  // namespace nextscale
