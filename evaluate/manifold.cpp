#include "nextscale/evaluate/manifold.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "nextscale/base/error.h"
#include "nextscale/evaluate/feature_rows.h"
#include "nextscale/evaluate/half_manifold.h"
#include "nextscale/evaluate/nearest.h"

namespace nextscale {
namespace {

constexpr int64_t kManifoldRowsAThread = 16;
constexpr int64_t kMostGroups = 64;        // bits of a mask
constexpr int64_t kFurtherNeighbours = 8;  // beyond 2k: a row's k-th neighbour outside a group is nearly always known
constexpr const char* kPrecisionAndRecall = "precision and recall";

using Radii = std::vector<double>;  // squared

void require_neighbours(const std::string& set, int64_t rows, int64_t k) {
  if (k >= 1 && k < rows) return;
  throw failure({std::string(kPrecisionAndRecall) + ": " + set, "k is out of range",
                 "1 to " + std::to_string(rows - 1) + " for " + std::to_string(rows) + " rows", std::to_string(k)});
}

void require_sets(const at::Tensor& generated, const at::Tensor& reference, const ManifoldOptions& options) {
  require_rows(generated, std::string(kPrecisionAndRecall) + ": generated set", 2);
  require_rows(reference, std::string(kPrecisionAndRecall) + ": reference", 2);
  require_same_width(reference, generated, kPrecisionAndRecall);
  require_neighbours("generated set", generated.size(0), options.k);
  require_neighbours("reference", reference.size(0), options.k);
}

/// Adds up what is done over several passes.
class Passes {
 public:
  Passes(int64_t all, const PairProgress& progress) : all_(all), progress_(progress) {}
  void add(int64_t pairs) {
    done_ += pairs;
    if (progress_) progress_(done_, all_);
  }

 private:
  int64_t done_ = 0, all_;
  const PairProgress& progress_;
};

/// Balls of one set, and of the same set without each group of its rows.
struct Balls {
  Radii radii;    // (n)
  Radii without;  // (n, groups), that of a row without its own group unused; empty where there are no groups
  Radii largest;  // (n) of all these

  double without_group(size_t row, size_t group) const {
    return without[row * (without.size() / radii.size()) + group];
  }
};

/// Random groups of the generated rows.
struct Cut {
  std::vector<at::Tensor> groups;
  std::vector<uint8_t> group_of;  // (n)
};

Cut cut_into(int64_t groups, int64_t rows, uint64_t seed) {
  Cut cut{random_groups(rows, groups, seed), std::vector<uint8_t>(static_cast<size_t>(rows))};
  for (size_t group = 0; group < cut.groups.size(); ++group) {
    const auto* some = cut.groups[group].const_data_ptr<int64_t>();
    for (int64_t at = 0; at < cut.groups[group].numel(); ++at) {
      cut.group_of[static_cast<size_t>(some[at])] = static_cast<uint8_t>(group);
    }
  }
  return cut;
}

/// @param cut may be nullptr
Balls balls_of(const PairRows& rows, const ManifoldOptions& options, const Cut* cut, Passes& passes) {
  const int64_t known = cut == nullptr ? options.k : std::min(2 * options.k + kFurtherNeighbours, rows.count() - 1);
  const auto found = nearest_within(rows, known, options.block, [&](int64_t pairs) { passes.add(pairs); });
  const auto n = static_cast<size_t>(rows.count()), groups = cut == nullptr ? 0 : cut->groups.size();
  Balls balls{Radii(n), Radii(n * groups), Radii(n)};
  for (size_t row = 0; row < n; ++row) {
    const double* squared = found.squared.const_data_ptr<double>() + row * static_cast<size_t>(known);
    const int64_t* indices = found.indices.const_data_ptr<int64_t>() + row * static_cast<size_t>(known);
    balls.radii[row] = balls.largest[row] = squared[options.k - 1];
    for (size_t group = 0; group < groups; ++group) {
      int64_t place = 0, left = options.k;
      // A group with most of a row's neighbours: the farthest known, which is a little too near.
      for (; place < known - 1; ++place) {
        if (cut->group_of[static_cast<size_t>(indices[place])] != group && --left == 0) break;
      }
      balls.without[row * groups + group] = squared[place];
      balls.largest[row] = std::max(balls.largest[row], squared[place]);
    }
  }
  return balls;
}

/// What lies inside what, for the whole set and for what is left without each group.
class Tally {
 public:
  Tally(const PairRows& generated, const PairRows& reference, const ManifoldOptions& options, Balls of_generated,
        Radii of_reference, const Cut* cut)
      : generated_(generated),
        reference_(reference),
        closed_(options.inside == Inside::closed),
        k_(options.k),
        rounding_(pair_rounding(generated.width())),
        of_generated_(std::move(of_generated)),
        of_reference_(std::move(of_reference)),
        cut_(cut),
        balls_(static_cast<size_t>(generated.count())),
        recalled_(static_cast<size_t>(reference.count())),
        recalled_without_(recalled_.size()),
        covered_by_(recalled_.size()) {}

  void add(const PairBlock& pairs) {
    at::parallel_for(pairs.i_begin, pairs.i_end, kManifoldRowsAThread, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) add_row(pairs, i);
    });
  }

  Manifold whole() const {
    Manifold found;
    for (size_t row = 0; row < balls_.size(); ++row) count_row(row, found);
    for (const auto recalled : recalled_) found.recall_count += recalled;
    for (const auto groups : covered_by_) found.coverage_count += groups != 0 ? 1 : 0;
    return shares(found, generated_.count());
  }

  Manifold without(size_t group) const {
    Manifold found;
    const uint64_t bit = uint64_t{1} << group;
    for (size_t row = 0; row < balls_.size(); ++row) {
      if (cut_->group_of[row] != group) count_row(row, found);
    }
    for (const auto groups : recalled_without_) found.recall_count += (groups & bit) != 0 ? 1 : 0;
    for (const auto groups : covered_by_) found.coverage_count += (groups & ~bit) != 0 ? 1 : 0;
    return shares(found, generated_.count() - cut_->groups[group].numel());
  }

 private:
  struct Span {
    double fast, slack;  // the squared distance is within fast ± slack
  };

  void add_row(const PairBlock& pairs, int64_t i) {
    const auto row = static_cast<size_t>(i);
    const double own = generated_.squares()[i], largest = of_generated_.largest[row];
    const uint64_t group = uint64_t{1} << (cut_ != nullptr ? cut_->group_of[row] : 0);
    for (int64_t j = pairs.j_begin; j < pairs.j_end; ++j) {
      const auto column = static_cast<size_t>(j);
      const double norms = own + reference_.squares()[j];
      const Span span{norms - 2 * pairs.product(i, j), rounding_ * norms};
      if (span.fast - span.slack > std::max(largest, of_reference_[column])) continue;
      if (inside(span, of_reference_[column], i, j)) {
        ++balls_[row];
        mark(covered_by_[column], group);
      }
      if (inside(span, of_generated_.radii[row], i, j)) mark(recalled_[column], uint8_t{1});
      if (cut_ != nullptr) mark(recalled_without_[column], groups_to_leave(span, i, j));
    }
  }

  /// The groups without which reference row j lies in the ball of generated row i.
  uint64_t groups_to_leave(const Span& span, int64_t i, int64_t j) const {
    const auto row = static_cast<size_t>(i);
    uint64_t groups = 0;
    for (size_t group = 0; group < cut_->groups.size(); ++group) {
      if (group == cut_->group_of[row] || !inside(span, of_generated_.without_group(row, group), i, j)) continue;
      groups |= uint64_t{1} << group;
    }
    return groups;
  }

  bool inside(const Span& span, double squared_radius, int64_t i, int64_t j) const {
    if (span.fast + span.slack < squared_radius) return true;
    if (span.fast - span.slack > squared_radius) return false;
    const double exact = squared_difference(generated_, i, reference_, j);
    return closed_ ? exact <= squared_radius : exact < squared_radius;
  }

  /// Rows of several threads meet in a column.
  template <typename Bits>
  static void mark(Bits& bits, Bits mask) {
    if (mask != 0) std::atomic_ref<Bits>(bits).fetch_or(mask, std::memory_order_relaxed);
  }

  void count_row(size_t row, Manifold& found) const {
    found.precision_count += balls_[row] > 0 ? 1 : 0;
    found.balls += balls_[row];
  }

  Manifold shares(Manifold counts, int64_t generated) const {
    const auto n = static_cast<double>(generated), m = static_cast<double>(reference_.count());
    counts.precision = static_cast<double>(counts.precision_count) / n;
    counts.recall = static_cast<double>(counts.recall_count) / m;
    counts.density = static_cast<double>(counts.balls) / (static_cast<double>(k_) * n);
    counts.coverage = static_cast<double>(counts.coverage_count) / m;
    return counts;
  }

  const PairRows& generated_;
  const PairRows& reference_;
  bool closed_;
  int64_t k_;
  double rounding_;
  Balls of_generated_;
  Radii of_reference_;
  const Cut* cut_;
  std::vector<int64_t> balls_;                           // reference balls that hold each generated row
  std::vector<uint8_t> recalled_;                        // reference rows
  std::vector<uint64_t> recalled_without_, covered_by_;  // reference rows, a bit a group
};

struct Found {
  Manifold whole;
  std::vector<Manifold> without;  // each group
};

/// @param groups 0 for none
Found compare(at::Tensor generated, at::Tensor reference, const ManifoldOptions& options, int64_t groups, uint64_t seed,
              const PairProgress& progress) {
  const auto type = at::result_type(generated, reference);  // equal rows must meet in one type
  const int64_t n = generated.size(0), m = reference.size(0);
  Passes passes(n * n + m * m + n * m, progress);
  const auto centre = wide_mean(reference);
  const PairRows g(generated.to(type), centre), r(reference.to(type), centre);
  std::optional<Cut> cut;
  if (groups > 0) cut = cut_into(groups, n, seed);
  const Cut* const some = cut ? &*cut : nullptr;
  auto of_reference = balls_of(r, options, nullptr, passes).radii;
  Tally tally(g, r, options, balls_of(g, options, some, passes), std::move(of_reference), some);
  for_each_block(g, r, options.block, [&](const PairBlock& pairs) {
    tally.add(pairs);
    passes.add((pairs.i_end - pairs.i_begin) * pairs.columns());
  });
  Found found{tally.whole(), {}};
  for (size_t group = 0; group < static_cast<size_t>(groups); ++group) found.without.push_back(tally.without(group));
  return found;
}

}  // namespace

Manifold compare_manifolds(const at::Tensor& generated, const at::Tensor& reference, const ManifoldOptions& options,
                           const PairProgress& progress) {
  require_sets(generated, reference, options);
  if (options.half) return compare_manifolds_in_half(generated, reference, options.k, progress);
  return compare(generated, reference, options, 0, 0, progress).whole;
}

ManifoldIntervals manifold_intervals(const at::Tensor& generated, const at::Tensor& reference,
                                     const ManifoldOptions& options, uint64_t seed, int64_t groups,
                                     const PairProgress& progress) {
  require_sets(generated, reference, options);
  const int64_t n = generated.size(0);
  if (groups < 2 || groups > std::min(kMostGroups, n) || n - (n + groups - 1) / groups <= options.k) {
    throw failure(
        {std::string(kPrecisionAndRecall) + ": interval", "groups of the generated set",
         "2 to " + std::to_string(kMostGroups) + ", with more than " + std::to_string(options.k) + " rows outside each",
         std::to_string(groups) + " of " + std::to_string(n) + " rows"});
  }
  const auto found = compare(generated, reference, options, groups, seed, progress);
  const auto value = options.half ? compare_manifolds_in_half(generated, reference, options.k, progress) : found.whole;
  const auto interval = [&](double Manifold::*share, double most) {
    std::vector<double> without;
    for (const auto& left : found.without) without.push_back(left.*share);
    const auto around = jackknife_interval(value.*share, without);
    return Interval{std::max(around.low, 0.0), std::min(around.high, most)};
  };
  const double unbounded = std::numeric_limits<double>::infinity();
  return {value, interval(&Manifold::precision, 1), interval(&Manifold::recall, 1),
          interval(&Manifold::density, unbounded), interval(&Manifold::coverage, 1)};
}

}  // namespace nextscale
