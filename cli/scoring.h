#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/cli/scoring_networks.h"
#include "nextscale/evaluate/feature_network.h"
#include "nextscale/evaluate/feature_set.h"
#include "nextscale/evaluate/picture_set.h"
#include "nextscale/evaluate/record.h"

namespace nextscale::cli {

/// What is said of the generated pictures besides their pixels.
struct GeneratedPictures {
  std::string path;
  /// (H, W, 3) uint8 of position i, for the report; empty where they came
  /// through add_generated
  std::function<at::Tensor(int64_t)> picture = {};
  nlohmann::json sampling;  ///< null where they came from a file
  std::string comparison;
};

/// One evaluation from open files to printed numbers. Everything that can be
/// wrong with options, weights, places to write and the reference is told by
/// the constructor, before anything long.
class Scoring {
 public:
  /// @param reference empty = none: only what needs no reference
  Scoring(const ScoringOptions& options, const MetricOptions& metrics, std::string reference,
          const RuntimeOptions& runtime, c10::Device device);
  ~Scoring();

  /// Reads the reference (and --held-out), once, before the generated pictures.
  /// @returns false if stopped
  bool read_reference(const StopOnSignal& stop);
  /// Scores a set of files. @returns false if stopped
  bool read_generated(const Dataset& pictures, const StopOnSignal& stop);
  /// Or pictures that come in pieces. With --report they stay in memory.
  /// @param expected how many will come, (side, side) each
  /// @throws Error usage for a report on more than a gibibyte of them
  void begin_generated(int64_t expected, int64_t side);
  /// @param pictures (B, H, W, 1 or 3) uint8
  void add_generated(const at::Tensor& pictures, const std::vector<int64_t>& labels);
  /// Puts rows into another order. @param order positions of the pictures as
  /// they came
  void end_generated(const std::vector<int64_t>& order);

  /// Computes, writes the files and prints the table.
  /// @throws Error with the signal's exit code if stopped; then nothing is written
  void finish(const GeneratedPictures& generated, const StopOnSignal& stop);

  const ScoringOptions& options() const { return options_; }
  /// The reference's pictures, cut as they are scored; nullptr where there are
  /// statistics only.
  const std::shared_ptr<const Dataset>& reference_pictures() const { return reference_pictures_; }

 private:
  void open_reference();
  void choose_metrics();
  /// Lite0's own answers can be compared with labels.
  bool knows_imagenet() const;
  std::optional<FeatureSet> read(const std::string& what, const Dataset& pictures, FeatureNetwork& network,
                                 const Wanted& wanted, const StopOnSignal& stop) const;
  void apply_class_index(const Dataset& pictures, FeatureSet& set) const;
  void save_statistics() const;
  EvaluationRecord record_of(const GeneratedPictures& generated, Evaluation result) const;

  ScoringOptions options_;
  MetricOptions metric_options_;
  std::string reference_path_;
  const RuntimeOptions& runtime_;
  const Protocol& protocol_;
  c10::Device device_;
  std::string weights_path_;
  std::unique_ptr<FeatureNetwork> network_, judge_;
  std::vector<std::string> metrics_, left_out_;
  std::shared_ptr<const Dataset> reference_pictures_, held_out_pictures_;
  Reference reference_;
  std::optional<FeatureSet> held_out_, generated_, classified_;
  std::unique_ptr<FeatureCollector> collector_, judge_collector_;
  std::vector<at::Tensor> kept_;     // (B, H, W, 3) uint8, as they came
  std::vector<int64_t> kept_order_;  // of kept_: position i of the set is kept_order_[i]
};

}  // namespace nextscale::cli
