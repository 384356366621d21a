#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include "nextscale/evaluate/feature_set.h"
#include "nextscale/evaluate/intervals.h"
#include "nextscale/evaluate/metric_options.h"
#include "nextscale/evaluate/neighbours.h"
#include "nextscale/evaluate/protocol.h"
#include "nextscale/evaluate/statistics_file.h"

namespace nextscale {

/// One number and how sure it is.
struct Metric {
  std::string name;   ///< key in the JSON: fid, sfid, inception_score, kid, precision, recall, density, coverage, …
  std::string title;  ///< for people: "FID", "FD-lite0"
  double value = 0;
  std::optional<Interval> interval;                     ///< 95 %
  std::vector<std::pair<std::string, double>> further;  ///< what belongs to it: deviation, other splits, ranks
};

/// What stands on the other side: pictures, statistics of a file, or both (ADM's reference archives: then distances
/// come from the statistics and everything else from the pictures).
struct Reference {
  std::optional<FeatureSet> pictures;
  std::optional<StoredStatistics> statistics;
};

struct EvaluationInput {
  const FeatureSet& generated;
  const Reference& reference;
  const FeatureSet* held_out = nullptr;    ///< real pictures outside the reference, for memorisation's baseline
  const FeatureSet* classified = nullptr;  ///< the generated pictures under --classifier
  std::string distance;                    ///< what the features' Fréchet distance is called
  bool inception = true;
  c10::Device device = c10::kCPU;  ///< where pairs of pictures are compared
};

struct Evaluation {
  std::vector<Metric> metrics;
  std::vector<std::string> left_out;  ///< "kid: the reference holds statistics only"
  std::vector<std::string> warnings;
  std::optional<MemorisationReport> neighbours;
  const Metric* find(const std::string& name) const;
};

using OnMetric = std::function<void(const std::string& metric, const std::string& detail)>;

/// What must be kept of the sets for these metrics.
Wanted wanted_of(const std::vector<std::string>& metrics, bool inception);

/// @param on_step told which metric is being computed and how far it is, for a line of progress; may throw to stop
/// @throws Error failure: too few pictures, widths that differ, a metric that was named and cannot be had
Evaluation evaluate_sets(const EvaluationInput& input, const std::vector<std::string>& metrics,
                         const MetricOptions& options, const Protocol& protocol, uint64_t seed,
                         const OnMetric& on_step = {});

}  // namespace nextscale
