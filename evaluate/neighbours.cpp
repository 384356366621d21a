#include "nextscale/evaluate/neighbours.h"

#include <algorithm>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/evaluate/feature_rows.h"
#include "nextscale/evaluate/intervals.h"
#include "nextscale/evaluate/nearest.h"

namespace nextscale {
namespace {

constexpr int64_t kNeighbourBlock = 2048;  // rows of a side at a time

/// @param samples, held_out (n) distances to the nearest training picture
Memorisation compared(const at::Tensor& samples, const at::Tensor& held_out, double fraction) {
  Memorisation result;
  result.held_out_median = held_out.median().item<double>();
  result.sample_median = samples.median().item<double>();
  const double near = fraction * result.held_out_median;
  // <= so that copies count even where half of the held-out pictures are copies too and the median is 0.
  result.share = (samples <= near).to(at::kDouble).mean().item<double>();
  result.held_out_share = (held_out <= near).to(at::kDouble).mean().item<double>();
  return result;
}

/// d1/d2 of (n, 2); 0 for two copies.
at::Tensor ratios_of(const at::Tensor& nearest) {
  const auto second = nearest.select(1, 1);
  return at::where(second > 0, nearest.select(1, 0) / second, at::zeros_like(second));
}

double share_below(const at::Tensor& ratios, double limit) {
  return (ratios < limit).to(at::kDouble).mean().item<double>();
}

}  // namespace

Neighbours nearest_neighbours(const at::Tensor& queries, const at::Tensor& references, int64_t k, int64_t block,
                              const PairProgress& progress) {
  require_rows(queries, "queries");
  require_rows(references, "references");
  require_same_width(references, queries, "nearest neighbours");
  if (k < 1 || k > references.size(0)) {
    throw failure(
        {"nearest neighbours", "k is out of range", "1 to " + std::to_string(references.size(0)), std::to_string(k)});
  }
  const auto type = at::result_type(queries, references);  // equal rows must meet in one type
  const auto centre = wide_mean(references);
  const PairRows from(queries.to(type), centre), to(references.to(type), centre);
  int64_t done = 0;
  const auto found = nearest_between(from, to, k, std::max(block, int64_t{1}), [&](int64_t pairs) {
    done += pairs;
    if (progress) progress(done, from.count() * to.count());
  });
  return {found.squared.sqrt(), found.indices};
}

Memorisation memorisation(const at::Tensor& samples, const at::Tensor& training, const at::Tensor& held_out,
                          double fraction) {
  return compared(nearest_neighbours(samples, training, 1).distances.flatten(),
                  nearest_neighbours(held_out, training, 1).distances.flatten(), fraction);
}

namespace {

/// Calls `progress` with pairs of both searches together.
class TwoSearches {
 public:
  TwoSearches(const PairProgress& progress, int64_t first, int64_t second, int64_t references)
      : progress_(progress), all_((first + second) * references), first_(first * references) {}
  PairProgress first() const { return part(0); }
  PairProgress second() const { return part(first_); }

 private:
  PairProgress part(int64_t before) const {
    return [this, before](int64_t done, int64_t) {
      if (progress_) progress_(before + done, all_);
    };
  }
  const PairProgress& progress_;
  int64_t all_, first_;
};

/// @param baseline (b, 2) distances of real pictures to their two nearest training pictures
MemorisationReport report_of(const Neighbours& of_samples, const at::Tensor& baseline,
                             const MemorisationOptions& options) {
  MemorisationReport report{
      .distances = compared(of_samples.distances.select(1, 0), baseline.select(1, 0), options.fraction),
      .nearest = of_samples.distances,
      .indices = of_samples.indices,
      .ratios = ratios_of(of_samples.distances),
      .held_out_ratios = ratios_of(baseline),
      .suspicious = {}};
  report.median_ratio = report.ratios.median().item<double>();
  report.held_out_median_ratio = report.held_out_ratios.median().item<double>();
  report.ratio_share = share_below(report.ratios, options.ratio_below);
  report.held_out_ratio_share = share_below(report.held_out_ratios, options.ratio_below);
  // Stable sorts by the lesser key first.
  const auto by_distance = report.nearest.select(1, 0).argsort(/*stable=*/true, 0, /*descending=*/false);
  const auto by_ratio = report.ratios.index_select(0, by_distance).argsort(/*stable=*/true, 0, false);
  report.suspicious = by_distance.index_select(0, by_ratio);
  return report;
}

}  // namespace

MemorisationReport memorisation_report(const at::Tensor& samples, const at::Tensor& training,
                                       const at::Tensor& held_out, const MemorisationOptions& options,
                                       const PairProgress& progress) {
  require_rows(training, "training pictures", 2);
  const TwoSearches searches(progress, samples.size(0), held_out.size(0), training.size(0));
  const auto of_samples = nearest_neighbours(samples, training, 2, kNeighbourBlock, searches.first());
  const auto of_held_out = nearest_neighbours(held_out, training, 2, kNeighbourBlock, searches.second());
  return report_of(of_samples, of_held_out.distances, options);
}

MemorisationReport memorisation_report_within(const at::Tensor& samples, const at::Tensor& training, uint64_t seed,
                                              int64_t most, const MemorisationOptions& options,
                                              const PairProgress& progress) {
  require_rows(training, "training pictures", 3);
  const int64_t count = std::min(most, training.size(0));
  const auto chosen = random_groups(training.size(0), 1, seed)[0].slice(0, 0, count);
  const TwoSearches searches(progress, samples.size(0), count, training.size(0));
  const auto of_samples = nearest_neighbours(samples, training, 2, kNeighbourBlock, searches.first());
  const auto among =
      nearest_neighbours(training.index_select(0, chosen), training, 3, kNeighbourBlock, searches.second());
  // The first is the picture itself, or a copy of it, and as near as itself.
  return report_of(of_samples, among.distances.slice(1, 1, 3), options);
}

}  // namespace nextscale
