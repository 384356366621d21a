#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "nextscale/base/command_line.h"
#include "nextscale/cli/scoring_networks.h"
#include "nextscale/evaluate/feature_set.h"
#include "nextscale/evaluate/tokenizer_record.h"

namespace nextscale::cli {

/// Those of evaluate's options that say how the distance of reconstructions is taken; with --features none, the
/// default, there is none.
std::vector<BoundOption> distance_options(ScoringOptions& options);
/// @throws Error usage for --weights, --classifier or --protocol without --features
void check_distance(const CommandLine& line, const ScoringOptions& options);

/// rFID or its kin, from pictures and reconstructions that come in pieces.
class DistanceOfReconstructions {
 public:
  /// @param expected how many pictures will come
  /// @throws Error usage for weights that are not there, failure for damaged ones
  DistanceOfReconstructions(const ScoringOptions& options, int64_t expected, c10::Device device);

  /// @param pictures, again (B, H, W, 1 or 3) uint8
  void add(const at::Tensor& pictures, const at::Tensor& again);
  /// @param warnings takes what the evaluator has to say, e.g. that there are few pictures
  /// @throws Error failure for fewer than two pictures
  ReconstructionDistance finish(uint64_t seed, std::vector<std::string>& warnings);

 private:
  const ScoringOptions& options_;
  const Protocol& protocol_;
  c10::Device device_;
  std::string weights_path_;
  std::unique_ptr<FeatureNetwork> network_;
  std::unique_ptr<FeatureCollector> reference_, generated_;
};

}  // namespace nextscale::cli
