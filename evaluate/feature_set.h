#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/data/dataset.h"
#include "nextscale/evaluate/feature_network.h"
#include "nextscale/evaluate/frechet.h"

namespace nextscale {

/// What is to be kept of a set besides means and covariances, whose memory does not depend on the number of pictures.
struct Wanted {
  bool rows = false;     ///< all features: neighbours, KID, exact distances of few pictures, intervals
  bool spatial = false;  ///< mean and covariance of the spatial features
  bool scores = false;   ///< all logits, for the Inception Score
};

/// Bytes that `wanted` keeps of so many pictures.
uint64_t kept_bytes(const Wanted& wanted, int64_t pictures, const FeatureNetwork& network);

/// A set of pictures after the network has seen them.
struct FeatureSet {
  FeatureStatistics features, spatial;
  at::Tensor rows;              ///< (n, D) float32, where wanted
  at::Tensor spatial_rows;      ///< (n, 2023) float32, where both rows and spatial are wanted and n is small
  at::Tensor logits;            ///< (n, classes) float32, where wanted
  at::Tensor predicted;         ///< (n) int64
  std::vector<int64_t> labels;  ///< -1 where unknown
  int64_t height = 0, width = 0;
  std::string hash;  ///< XXH3-128 of sizes and pixels in order
  int64_t count() const { return features.count(); }
};

/// Collects a set, pictures given in any number of pieces: extract() reads them from somewhere, a sampler makes them.
class FeatureCollector {
 public:
  /// @param expected number of pictures that will come, for the rows' memory; more are an error
  FeatureCollector(FeatureNetwork& network, const Wanted& wanted, int64_t expected);
  ~FeatureCollector();
  FeatureCollector(const FeatureCollector&) = delete;
  FeatureCollector& operator=(const FeatureCollector&) = delete;

  /// @param pictures (B, H, W, 3) uint8 @param labels -1 where unknown
  void add(const at::Tensor& pictures, const std::vector<int64_t>& labels);
  /// Pictures that were prepared by the network's `prepare`, with the hashes of their pixels.
  void add_prepared(const at::Tensor& prepared, const std::vector<uint64_t>& hashes, int64_t height, int64_t width,
                    const std::vector<int64_t>& labels);
  /// What was collected; call once. @throws Error failure if nothing was
  FeatureSet finish();

 private:
  void flush();

  FeatureNetwork& network_;
  Wanted wanted_;
  int64_t expected_, seen_ = 0;
  FeatureSet set_;
  std::vector<at::Tensor> pending_, pending_spatial_, predicted_;
  int64_t pending_rows_ = 0;
  void* hash_;  // XXH3_state_t
};

struct ExtractionSettings {
  int64_t batch = 32;
  int64_t workers = 2;
};

/// The pictures of a data set, in order: threads decode and resize while the network looks at the batch before.
/// @param on_pictures told how many have been seen; returning false stops @returns the set, or nothing if stopped
/// @throws Error failure naming the picture: damaged, transparent, or of another size than the first
std::optional<FeatureSet> extract(const Dataset& pictures, FeatureNetwork& network, const Wanted& wanted,
                                  const ExtractionSettings& settings,
                                  const std::function<bool(int64_t done)>& on_pictures = {});

}  // namespace nextscale
