#include "nextscale/evaluate/evaluation.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/evaluate/frechet_extrapolation.h"
#include "nextscale/evaluate/inception_score.h"
#include "nextscale/evaluate/manifold.h"

namespace nextscale {
namespace {

constexpr int64_t kAdmRows = 5000;       // of a part of ADM's Inception Score
constexpr uint32_t kShuffleSeed = 2020;  // torch-fidelity's
constexpr int64_t kSplits = 10;
constexpr int64_t kDensityNeighbours = 5;  // k of density and coverage, as their paper recommends
constexpr int64_t kParts = 10;             // disjoint parts behind an interval
constexpr int64_t kBaseline = 2000;        // reference pictures that say how near real ones come
constexpr int64_t kAdmSamples = 50000, kAdmReferences = 10000;
constexpr Interval kNoInterval{.low = 1, .high = -1};
constexpr int64_t kFewForInterval = 20;  // rows below which no interval is given

bool contains(const std::vector<std::string>& words, const char* word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// One evaluation on its way.
class Work {
 public:
  Work(const EvaluationInput& input, const MetricOptions& options, const Protocol& protocol, uint64_t seed,
       const OnMetric& on_step)
      : input_(input), options_(options), protocol_(protocol), seed_(seed), on_step_(on_step) {}

  void compute(const std::string& metric) {
    metric_ = metric;
    if (on_step_) on_step_(metric, "");
    if (metric == "fid") fid();
    if (metric == "sfid") sfid();
    if (metric == "is") score();
    if (metric == "kid") kid();
    if (metric == "pr") precision_recall();
    if (metric == "prdc") density_coverage();
    if (metric == "memorisation") memorised();
    if (metric == "accuracy") accuracy();
  }
  Evaluation take() {
    warn_of_few();
    return std::move(result_);
  }

 private:
  const FeatureSet& generated() const { return input_.generated; }
  const FeatureSet& reference() const { return *input_.reference.pictures; }
  /// Progress of work on pairs of pictures.
  PairProgress pairs() const {
    return [this](int64_t done, int64_t all) {
      if (on_step_) on_step_(metric_, fmt::format(", {} %", 100 * done / std::max<int64_t>(all, 1)));
    };
  }
  at::Tensor on_device(const at::Tensor& rows) const { return rows.to(input_.device); }
  bool worth_an_interval() const { return generated().count() >= kFewForInterval; }
  void warn(std::string line) { result_.warnings.push_back(std::move(line)); }

  void add_distance(const std::string& name, const std::string& title, const at::Tensor& rows,
                    const FeatureStatistics& moments, const FrechetReference& reference) {
    // Singular values of few rows keep all digits, also where the covariance has no full rank.
    const bool few = rows.defined() && rows.size(0) <= rows.size(1);
    const auto found = few ? reference.distance(rows) : reference.distance(moments);
    Metric metric{.name = name, .title = title, .value = found.value, .interval = {}, .further = {}};
    if (rows.defined() && worth_an_interval()) {
      metric.interval = frechet_interval(found.value, rows, reference, seed_, kParts, pairs());
      metric.interval->low = std::max(metric.interval->low, 0.0);
    }
    if (found.deficient()) {
      metric.further = {{"rank_generated", static_cast<double>(found.rank_b)},
                        {"rank_reference", static_cast<double>(found.rank_a)}};
      warn(
          fmt::format("{}: rank-deficient: covariances of rank {} and {} in {} dimensions; compare only with the same "
                      "numbers of pictures",
                      title, found.rank_b, found.rank_a, found.width));
    }
    if (options_.fid_infinity && name != "sfid") {
      metric.further.emplace_back("infinity", frechet_at_infinity(rows, reference, seed_, {}, pairs()).value);
    }
    result_.metrics.push_back(metric);
  }

  /// Few rows themselves instead of their statistics.
  static FrechetReference side(const at::Tensor& rows, const FeatureStatistics& moments) {
    if (rows.defined() && rows.size(0) <= rows.size(1)) return FrechetReference(rows);
    return FrechetReference(moments);
  }

  // Statistics of a file go before pictures, as in ADM's evaluator.
  void fid() {
    const auto& stored = input_.reference.statistics;
    const auto reference_side =
        stored ? FrechetReference(stored->features) : side(reference().rows, reference().features);
    add_distance(input_.inception ? "fid" : "frechet_distance", input_.distance, generated().rows, generated().features,
                 reference_side);
  }

  void sfid() {
    const auto& stored = input_.reference.statistics;
    const auto reference_side =
        stored ? FrechetReference(*stored->spatial) : side(reference().spatial_rows, reference().spatial);
    add_distance("sfid", "sFID", generated().spatial_rows, generated().spatial, reference_side);
  }

  void score() {
    const auto& logits = generated().logits;
    const int64_t count = logits.size(0);
    const bool in_order = protocol_.score_parts == ScoreParts::rows_in_file_order;
    const int64_t splits = std::min(count, options_.is_splits > 0 ? options_.is_splits : kSplits);
    const auto shuffled = shuffled_rows(logits, kShuffleSeed);
    const auto rows_in_parts = [&](const at::Tensor& rows) {
      return options_.is_splits == 0 && in_order ? inception_score_of_rows(rows, kAdmRows)
                                                 : inception_score(rows, splits);
    };
    const auto found = rows_in_parts(in_order ? logits : shuffled);
    Metric metric{
        .name = "inception_score", .title = "Inception Score", .value = found.value, .interval = {}, .further = {}};
    metric.further = {{"deviation", found.deviation},
                      {"parts", static_cast<double>(found.parts.size())},
                      {"shuffled", rows_in_parts(shuffled).value},
                      {"one_part", inception_score(logits, 1).value}};
    if (worth_an_interval()) {
      const auto& rows = in_order ? logits : shuffled;
      metric.interval = options_.is_splits == 0 && in_order ? inception_score_of_rows_interval(rows, kAdmRows, seed_)
                                                            : inception_score_interval(rows, splits, seed_);
    }
    result_.metrics.push_back(metric);
    if (in_order && found.parts.size() > 1 && comes_class_by_class(logits)) {
      warn(
          "Inception Score: rows come class by class, so parts in file order "
          "hold few classes each and the value is "
          "too low by any factor; take the shuffled one, or shuffle the set "
          "(sample --npz does)");
    }
  }

  void kid() {
    KernelDistanceOptions options{
        .subsets = options_.kid_subsets, .subset_size = options_.kid_subset_size, .draws = protocol_.kernel_draws};
    const auto rows = on_device(generated().rows), real = on_device(reference().rows);
    const int64_t fewest = std::min(rows.size(0), real.size(0));
    if (options.subset_size > fewest) {
      warn(
          fmt::format("KID: subsets of {} pictures, as a set has no more (the "
                      "protocol's are {})",
                      fewest, options.subset_size));
      options.subset_size = fewest;
    }
    // torch-fidelity is called with the generated set first, clean-fid with the
    // generated set second
    const bool generated_first = protocol_.kernel_draws == KernelDraws::first_then_second;
    const auto found = generated_first ? kernel_distance(rows, real, options) : kernel_distance(real, rows, options);
    Metric metric{.name = "kid", .title = "KID", .value = found.value, .interval = {}, .further = {}};
    metric.further = {{"deviation", found.deviation},
                      {"subsets", static_cast<double>(found.subsets)},
                      {"subset_size", static_cast<double>(found.subset_size)}};
    if (fewest >= kFewForInterval) metric.interval = kernel_distance_interval(rows, real, found, seed_);
    result_.metrics.push_back(metric);
  }

  /// @param of rows that the value is a share of, 0 if it is none
  void add_share(const std::string& name, double value, Interval interval, int64_t k, int64_t of) {
    // Where all rows say the same, groups of them have no spread; that is no certainty.
    if (of > 0 && interval.low <= interval.high && interval.high - interval.low < 1e-9) {
      interval = share_interval(std::llround(value * static_cast<double>(of)), of);
    }
    Metric metric{
        .name = name, .title = name, .value = value, .interval = {}, .further = {{"k", static_cast<double>(k)}}};
    if (interval.low <= interval.high) metric.interval = interval;
    result_.metrics.push_back(metric);
  }

  void require_neighbours(int64_t k) const {
    for (const auto* set : {&generated(), &reference()}) {
      if (set->count() > k) continue;
      throw failure({"precision and recall", "too few pictures", fmt::format("at least {}", k + 1),
                     std::to_string(set->count())});
    }
  }

  /// Values with intervals where there are rows enough for parts of more than k each.
  ManifoldIntervals manifold(const ManifoldOptions& options) {
    require_neighbours(options.k);
    const auto rows = on_device(generated().rows), real = on_device(reference().rows);
    const int64_t parts = std::min<int64_t>(kParts, rows.size(0) / (options.k + 1));
    if (worth_an_interval() && parts >= 2) {
      return manifold_intervals(rows, real, options, seed_, parts, pairs());
    }
    return {.value = compare_manifolds(rows, real, options, pairs()),
            .precision = kNoInterval,
            .recall = kNoInterval,
            .density = kNoInterval,
            .coverage = kNoInterval};
  }

  void precision_recall() {
    const int64_t k = protocol_.neighbours;
    const auto found = manifold({.k = k, .inside = Inside::closed, .half = options_.half});
    add_share("precision", found.value.precision, found.precision, k, generated().count());
    add_share("recall", found.value.recall, found.recall, k, reference().count());
    if (generated().count() != kAdmSamples || reference().count() != kAdmReferences) {
      warn(
          fmt::format("precision and recall move with both counts ({} generated, {} reference here; published ones are "
                      "mostly {} and {})",
                      generated().count(), reference().count(), kAdmSamples, kAdmReferences));
    }
  }

  void density_coverage() {
    const auto found = manifold({.k = kDensityNeighbours, .inside = Inside::open});
    add_share("density", found.value.density, found.density, kDensityNeighbours, 0);
    add_share("coverage", found.value.coverage, found.coverage, kDensityNeighbours, reference().count());
  }

  void memorised() {
    const auto rows = on_device(generated().rows), training = on_device(reference().rows);
    auto report = input_.held_out != nullptr
                      ? memorisation_report(rows, training, on_device(input_.held_out->rows), {}, pairs())
                      : memorisation_report_within(rows, training, seed_, kBaseline, {}, pairs());
    const auto& found = report.distances;
    const auto near = report.nearest.select(1, 0) <= MemorisationOptions{}.fraction * found.held_out_median;
    Metric metric{.name = "memorisation",
                  .title = "samples on a training picture",
                  .value = found.share,
                  .interval = {},
                  .further = {{"baseline", found.held_out_share},
                              {"median_distance", found.sample_median},
                              {"baseline_median_distance", found.held_out_median},
                              {"median_ratio", report.median_ratio},
                              {"baseline_median_ratio", report.held_out_median_ratio},
                              {"ratio_share", report.ratio_share},
                              {"baseline_ratio_share", report.held_out_ratio_share}}};
    if (worth_an_interval()) metric.interval = share_interval(near.sum().item<int64_t>(), near.numel());
    result_.metrics.push_back(metric);
    result_.neighbours = std::move(report);
  }

  void accuracy() {
    const auto& judged = *input_.classified;
    const auto labels = at::tensor(judged.labels, at::kLong);
    const auto known = labels >= 0;
    if (!known.any().item<bool>()) {
      if (!contains(options_.metrics, "accuracy")) {
        result_.left_out.emplace_back("accuracy: nothing says the generated pictures' classes");
        return;
      }
      throw failure({"--metrics accuracy",
                     "nothing says the generated pictures' classes",
                     "names like 000000_class007.png, class folders or arr_1",
                     {}});
    }
    const auto right = (judged.predicted == labels).masked_select(known).to(at::kDouble);
    Metric metric{.name = "accuracy",
                  .title = "class accuracy",
                  .value = right.mean().item<double>(),
                  .interval = {},
                  .further = {}};
    metric.further = {{"pictures", static_cast<double>(right.numel())}};
    if (right.numel() >= kFewForInterval) metric.interval = bootstrap_mean_interval(right, seed_);
    result_.metrics.push_back(metric);
  }

  void warn_of_few() {
    const int64_t count = generated().count();
    const auto* distance = result_.find(input_.inception ? "fid" : "frechet_distance");
    if (distance != nullptr && count < 10000) {
      warn(
          fmt::format("{}: {} pictures; its bias grows as 1/N, so it compares "
                      "only with values of as many (50,000 is the "
                      "convention)",
                      input_.distance, count));
    }
    if (const auto* score = result_.find("inception_score"); score != nullptr && count < kAdmRows) {
      warn(
          fmt::format("Inception Score: it grows with the rows of a part, and "
                      "{} pictures are few",
                      count));
    }
  }

  const EvaluationInput& input_;
  const MetricOptions& options_;
  const Protocol& protocol_;
  uint64_t seed_;
  const OnMetric& on_step_;
  std::string metric_;  // being computed
  Evaluation result_;
};

}  // namespace

const Metric* Evaluation::find(const std::string& name) const {
  const auto found =
      std::find_if(metrics.begin(), metrics.end(), [&](const Metric& metric) { return metric.name == name; });
  return found == metrics.end() ? nullptr : &*found;
}

Wanted wanted_of(const std::vector<std::string>& metrics, bool inception) {
  Wanted wanted;
  for (const char* name : {"fid", "kid", "pr", "prdc", "memorisation"}) wanted.rows |= contains(metrics, name);
  wanted.spatial = inception && contains(metrics, "sfid");
  wanted.scores = contains(metrics, "is");
  return wanted;
}

Evaluation evaluate_sets(const EvaluationInput& input, const std::vector<std::string>& metrics,
                         const MetricOptions& options, const Protocol& protocol, uint64_t seed,
                         const OnMetric& on_step) {
  Work work(input, options, protocol, seed, on_step);
  for (const auto& metric : metrics) {
    work.compute(metric);
  }
  return work.take();
}

}  // namespace nextscale
