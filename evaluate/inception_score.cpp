#include "nextscale/evaluate/inception_score.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/evaluate/feature_rows.h"
#include "nextscale/evaluate/numpy_order.h"

namespace nextscale {
namespace {

constexpr int64_t kScoreRowsAtATime = 4096;
constexpr int64_t kFewest = 20;  // rows below which an order says nothing

struct Part {
  int64_t begin, end;
  int64_t count() const { return end - begin; }
};

std::vector<Part> equal_parts(int64_t rows, int64_t parts) {
  if (parts < 1 || parts > rows) {
    throw failure({"Inception Score", "number of parts", "1 to " + std::to_string(rows), std::to_string(parts)});
  }
  std::vector<Part> found;
  for (int64_t i = 0; i < parts; ++i) found.push_back({i * rows / parts, (i + 1) * rows / parts});
  return found;
}

std::vector<Part> parts_of_rows(int64_t rows, int64_t rows_a_part) {
  if (rows_a_part < 1) {
    throw failure({"Inception Score", "rows in a part", "at least 1", std::to_string(rows_a_part)});
  }
  std::vector<Part> found;
  for (int64_t begin = 0; begin < rows; begin += rows_a_part) {
    found.push_back({begin, std::min(begin + rows_a_part, rows)});
  }
  return found;
}

/// Scores of a part for rows weighted by counts: exp(mean over rows of Σ p log p - Σ m log m), m the mean of p.
/// @param counts (r, rows of the part) float32; each row sums to the part's number of rows @returns (r) float64
at::Tensor scores_of(const at::Tensor& logits, const Part& part, const at::Tensor& counts) {
  auto mean = at::zeros({counts.size(0), logits.size(1)}, at::kDouble);  // (r, classes)
  auto certainty = at::zeros({counts.size(0)}, at::kDouble);             // (r), mean of Σ p log p
  for (int64_t begin = part.begin; begin < part.end; begin += kScoreRowsAtATime) {
    const int64_t end = std::min(begin + kScoreRowsAtATime, part.end);
    const auto weights =
        counts.slice(1, begin - part.begin, end - part.begin).to(at::kDouble) / static_cast<double>(part.count());
    const auto log_p = at::log_softmax(wide_rows(logits, begin, end), 1);  // (b, classes), finite
    const auto p = log_p.exp();
    mean.addmm_(weights, p);
    certainty.addmv_(weights, (p * log_p).sum(1));
  }
  return (certainty - at::xlogy(mean, mean).sum(1)).exp();
}

InceptionScore score(const at::Tensor& logits, const std::vector<Part>& parts) {
  InceptionScore found;
  for (const auto& part : parts) {
    found.parts.push_back(scores_of(logits, part, at::ones({1, part.count()})).item<double>());
  }
  const auto all = at::tensor(found.parts, at::kDouble);
  found.value = all.mean().item<double>();
  found.deviation = all.std(/*unbiased=*/false).item<double>();
  return found;
}

/// (resamples, n): how often each row came in n draws with replacement.
at::Tensor drawn_counts(int64_t n, int64_t resamples, at::Generator& generator) {
  auto counts = at::zeros({resamples, n}, at::kFloat);
  const auto ones = at::ones({n}, at::kFloat);
  for (int64_t i = 0; i < resamples; ++i) {
    counts[i].index_add_(0, at::randint(n, {n}, generator, at::kLong), ones);
  }
  return counts;
}

Interval interval(const at::Tensor& logits, const std::vector<Part>& parts, uint64_t seed, int64_t resamples) {
  if (resamples < 40) throw failure({"Inception Score", "too few resamples", "at least 40", std::to_string(resamples)});
  auto generator = make_generator(seed);
  auto all = at::zeros({resamples}, at::kDouble);
  for (const auto& part : parts) all += scores_of(logits, part, drawn_counts(part.count(), resamples, generator));
  all *= score(logits, parts).value / all.mean().item<double>();
  return percentile_interval({all.data_ptr<double>(), all.data_ptr<double>() + resamples});
}

}  // namespace

InceptionScore inception_score(const at::Tensor& logits, int64_t parts) {
  require_rows(logits, "Inception Score");
  return score(logits, equal_parts(logits.size(0), parts));
}

InceptionScore inception_score_of_rows(const at::Tensor& logits, int64_t rows_a_part) {
  require_rows(logits, "Inception Score");
  return score(logits, parts_of_rows(logits.size(0), rows_a_part));
}

at::Tensor shuffled_rows(const at::Tensor& rows, uint32_t seed) {
  std::mt19937 generator(seed);
  const auto order = numpy_permutation(generator, rows.size(0));
  return rows.index_select(0, at::tensor(order, at::kLong).to(rows.device()));
}

bool comes_class_by_class(const at::Tensor& logits) {
  require_rows(logits, "order of the pictures");
  if (logits.size(0) < kFewest) return false;
  const auto n = static_cast<double>(logits.size(0));
  const auto predicted = logits.argmax(1).cpu();  // (N)
  const auto counts = at::bincount(predicted).to(at::kDouble);
  const double by_chance = (counts * (counts - 1)).sum().item<double>() / (n * (n - 1));
  const auto equal = predicted.slice(0, 1) == predicted.slice(0, 0, -1);
  const double found = equal.to(at::kDouble).mean().item<double>();
  const double deviation = std::sqrt(by_chance * (1 - by_chance) / (n - 1));
  return found - by_chance > std::max(6 * deviation, 0.1 * (1 - by_chance));
}

Interval inception_score_interval(const at::Tensor& logits, int64_t parts, uint64_t seed, int64_t resamples) {
  require_rows(logits, "Inception Score", 2);
  return interval(logits, equal_parts(logits.size(0), parts), seed, resamples);
}

Interval inception_score_of_rows_interval(const at::Tensor& logits, int64_t rows_a_part, uint64_t seed,
                                          int64_t resamples) {
  require_rows(logits, "Inception Score", 2);
  return interval(logits, parts_of_rows(logits.size(0), rows_a_part), seed, resamples);
}

}  // namespace nextscale
