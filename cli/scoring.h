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

#include "nextscale/base/command_line.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/evaluate/feature_network.h"
#include "nextscale/evaluate/feature_set.h"
#include "nextscale/evaluate/picture_set.h"
#include "nextscale/evaluate/record.h"

namespace nextscale::cli {

/// How pictures are scored; on `evaluate` and on `sample --evaluate`.
struct ScoringOptions {
  std::string protocol = "adm";
  std::string features = "inception";
  std::string weights;
  std::string classifier;
  std::string held_out;
  std::string class_index;
  std::string json;
  std::string report;
  std::string save_statistics;
  int64_t side = 0;
  double mid_reso = 1.125;
  int64_t scoring_batch = 32;
  int64_t workers = 2;

  static constexpr auto table() {
    using O = ScoringOptions;
    return std::tuple{
        option("protocol", &O::protocol, "whose numbers: everything that differs between the field's tools",
               one_of("adm", "torch-fidelity", "clean-fid", "pytorch-fid")),
        option("features", &O::features,
               "inception (FID), efficientnet-lite0 or classifier (Fréchet "
               "distances that are not FID)",
               one_of("inception", "efficientnet-lite0", "classifier")),
        option("weights", &O::weights,
               "file of the network's weights (scripts/download-weights.sh, "
               "scripts/registry-weights.sh); empty = its "
               "usual name in the folder $NEXTSCALE_WEIGHTS"),
        option("classifier", &O::classifier,
               "a run of train-classifier, or its file: class accuracy, and "
               "the features of --features classifier"),
        option("held_out", &O::held_out,
               "real pictures that are not in the reference: memorisation's "
               "baseline; else the reference against itself"),
        option("class_index", &O::class_index,
               "file with index, folder and name of each class, for class "
               "folders"),
        option("json", &O::json, "file for all numbers, settings, hashes and versions"),
        option("report", &O::report,
               "HTML file, one self-contained page: numbers, settings, "
               "samples, neighbours"),
        option("save_statistics", &O::save_statistics,
               "npz file for mean and covariance of the reference's pictures "
               "(without --reference: of the generated "
               "ones), to be a --reference later"),
        option("side", &O::side,
               "pictures of another size are resized and center-cropped to "
               "this side, on both sides; 0 = "
               "as they are",
               between(0, 4096)),
        option("mid_reso", &O::mid_reso, "shorter side before that crop, in sides", between(1.0, 4.0)),
        option("scoring_batch", &O::scoring_batch, "pictures that the network sees at once", between(1, 4096)),
        option("workers", &O::workers, "threads that decode and resize pictures", between(0, 256)),
    };
  }
  CropSettings crop() const { return {.side = side, .mid_reso = mid_reso}; }
};

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
