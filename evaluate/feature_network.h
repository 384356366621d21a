#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "nextscale/evaluate/protocol.h"

namespace nextscale {

/// What a network says of some pictures; float32 on the CPU. Undefined: the network has no such output.
struct FeatureBatch {
  at::Tensor features;   ///< (B, D)
  at::Tensor spatial;    ///< (B, 2023), for sFID
  at::Tensor logits;     ///< (B, classes), of the Inception Score (without bias) or of class accuracy
  at::Tensor predicted;  ///< (B) int64, the likeliest class
};

/// A network with everything that belongs to it: how pictures get to its size and range.
class FeatureNetwork {
 public:
  virtual ~FeatureNetwork() = default;
  virtual std::string name() const = 0;      ///< "FID-InceptionV3 (2015-12-05), pool 2048"
  virtual std::string distance() const = 0;  ///< what its Fréchet distance is called: "FID", "FD-lite0" …
  virtual int64_t width() const = 0;         ///< D
  /// Outputs besides the features.
  virtual bool has_spatial() const { return false; }
  virtual bool has_scores() const { return false; }
  /// Shape of one prepared picture of this size, for `prepare`. @throws Error failure for a size that cannot be taken
  virtual std::vector<int64_t> prepared_shape(int64_t height, int64_t width) const = 0;
  /// Writes what the network eats, without LibTorch's threads; safe to call from several threads.
  /// @param picture (H, W, 3) uint8
  virtual void prepare(const at::Tensor& picture, float* out) const = 0;
  /// @param prepared (B, …) as prepared_shape says, on the CPU
  virtual FeatureBatch run(const at::Tensor& prepared) = 0;
};

/// FID's network under a protocol.
/// @param weights published .pth (both names) or safetensors
/// @throws Error failure naming file and entry
std::unique_ptr<FeatureNetwork> open_inception(const std::filesystem::path& weights, const Protocol& protocol,
                                               c10::Device device);
/// EfficientNet-Lite0, 1280 features: never called FID.
std::unique_ptr<FeatureNetwork> open_efficientnet_lite0(const std::filesystem::path& weights, c10::Device device);
/// A classifier of train-classifier.
std::unique_ptr<FeatureNetwork> open_classifier(const std::filesystem::path& file_or_run, c10::Device device);

/// While one lives, float32 products on a GPU keep all their digits (no TF32): features move by 1e-3 otherwise.
class FullPrecision {
 public:
  FullPrecision();
  ~FullPrecision();
  FullPrecision(const FullPrecision&) = delete;
  FullPrecision& operator=(const FullPrecision&) = delete;

 private:
  bool convolutions_, products_;
};

}  // namespace nextscale
