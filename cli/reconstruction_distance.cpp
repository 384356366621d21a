#include "nextscale/cli/reconstruction_distance.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/evaluate/evaluation.h"
#include "nextscale/evaluate/metric_options.h"
#include "nextscale/evaluate/record.h"
#include "nextscale/io/checkpoint.h"

namespace nextscale::cli {
namespace {

constexpr std::array<std::string_view, 5> kRows{"features", "weights", "classifier", "protocol", "scoring_batch"};
const std::vector<std::string> kMetrics{"fid"};

void add_pieces(FeatureCollector& collector, const at::Tensor& pictures, int64_t at_once) {
  const auto colour = pictures.expand({-1, -1, -1, 3}).contiguous();  // (B, H, W, 3)
  for (const auto& some : colour.split(at_once)) {
    collector.add(some, std::vector<int64_t>(static_cast<size_t>(some.size(0)), -1));
  }
}

}  // namespace

std::vector<BoundOption> distance_options(ScoringOptions& options) {
  options.features = "none";
  std::vector<BoundOption> rows;
  for (auto& row : bind_options(options)) {
    if (std::find(kRows.begin(), kRows.end(), row.name) == kRows.end()) continue;
    if (row.name == "features") {
      row.help = "none, " + row.help;
      row.rule.clear();
      row.fits = [value = &options.features, fits = row.fits] { return *value == "none" || fits(); };
    }
    if (row.name == "classifier") row.help = "a run of train-classifier, or its file, for --features classifier";
    rows.push_back(std::move(row));
  }
  return rows;
}

void check_distance(const CommandLine& line, const ScoringOptions& options) {
  if (options.features != "none") return;
  for (const char* name : {"weights", "classifier", "protocol"}) {
    if (line.given(name)) throw usage({.where = "--" + std::string(name), .what = "goes with --features"});
  }
}

DistanceOfReconstructions::DistanceOfReconstructions(const ScoringOptions& options, int64_t expected,
                                                     c10::Device device)
    : options_(options),
      protocol_(protocol_of(options.protocol)),
      device_(device),
      weights_path_(find_weights(options)),
      network_(open_network(options, weights_path_, protocol_, device)) {
  const auto wanted = wanted_of(kMetrics, network_->has_spatial());
  reference_ = std::make_unique<FeatureCollector>(*network_, wanted, expected);
  generated_ = std::make_unique<FeatureCollector>(*network_, wanted, expected);
}

void DistanceOfReconstructions::add(const at::Tensor& pictures, const at::Tensor& again) {
  add_pieces(*reference_, pictures, options_.scoring_batch);
  add_pieces(*generated_, again, options_.scoring_batch);
}

ReconstructionDistance DistanceOfReconstructions::finish(uint64_t seed, std::vector<std::string>& warnings) {
  const Reference reference{.pictures = reference_->finish(), .statistics = {}};
  const auto generated = generated_->finish();
  const EvaluationInput input{.generated = generated,
                              .reference = reference,
                              .distance = network_->distance(),
                              .inception = network_->has_spatial(),
                              .device = device_};
  const auto result = evaluate_sets(input, kMetrics, MetricOptions{}, protocol_, seed);
  warnings.insert(warnings.end(), result.warnings.begin(), result.warnings.end());
  return {.metric = result.metrics.at(0),
          .features = network_->name(),
          .weights_path = weights_path_,
          .weights_hash = file_hash(resolve_weights_path(weights_path_)),
          .protocol = protocol_.name,
          .reference_hash = reference.pictures->hash,
          .generated_hash = generated.hash};
}

}  // namespace nextscale::cli
