// Inception Score and kernel distance beyond what the parity tests compare with other tools.
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/evaluate/inception_score.h"
#include "nextscale/evaluate/kernel_distance.h"
#include "nextscale/tests/support/metrics.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::normal;

RC_GTEST_PROP(InceptionScore, LiesBetweenOneAndTheClassesAndDoesNotSeeOrderWithinAPart, ()) {
  const auto rows = *rc::gen::inRange<int64_t>(1, 60), classes = *rc::gen::inRange<int64_t>(1, 12);
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto sharpness = *rc::gen::inRange<int>(0, 400);
  const auto logits = normal({rows, classes}, seed) * sharpness;
  const auto score = inception_score(logits, 1);
  RC_ASSERT(score.value >= 1 - 1e-9);
  RC_ASSERT(score.value <= static_cast<double>(classes) * (1 + 1e-9));
  RC_ASSERT(std::abs(inception_score(shuffled_rows(logits, 3), 1).value - score.value) < 1e-9 * score.value);
  RC_ASSERT(inception_score_of_rows(logits, rows).value == score.value);
  RC_ASSERT(score.parts.size() == 1U);
}

TEST(InceptionScore, IsTheNumberOfClassesThatAreCertainAndEquallyFrequent) {
  const auto logits = at::eye(7, at::kDouble).repeat({30, 1}) * 1000;
  EXPECT_NEAR(inception_score(logits, 1).value, 7, 1e-12);
  EXPECT_NEAR(inception_score(logits, 10).value, 7, 1e-12);
  EXPECT_EQ(inception_score_of_rows(logits, 100).parts.size(), 3U);  // the last of ten rows
}

TEST(ClassByClass, IsSeenInSortedSetsOnly) {
  const auto labels = at::arange(400).div(20, "floor");  // 20 classes of 20 rows
  const auto certain = at::one_hot(labels).to(at::kDouble) * 4;
  const auto half_right = certain + normal({400, 20}, 1) * 2;
  EXPECT_TRUE(comes_class_by_class(certain));
  EXPECT_TRUE(comes_class_by_class(half_right));
  for (uint32_t seed = 0; seed < 50; ++seed) EXPECT_FALSE(comes_class_by_class(shuffled_rows(half_right, seed)));
  // One class all along is no order, and neither are classes in turn.
  EXPECT_FALSE(comes_class_by_class(certain.slice(0, 0, 1).expand({100, 20})));
  EXPECT_FALSE(comes_class_by_class(at::eye(20).repeat({20, 1})));
  EXPECT_FALSE(comes_class_by_class(certain.slice(0, 0, 19)));
}

at::Tensor drawn_logits(uint64_t seed) { return normal({400, 10}, seed) * 2; }

// Rows of a known distribution drawn again and again; the expectation of a score of 400 rows from 2,000 sets.
TEST(InceptionScoreInterval, HoldsTheExpectationInNinetyFiveOfAHundred) {
  double whole = 0, parts = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    whole += inception_score(drawn_logits(derived_seed(1, i)), 1).value / 2000;
    parts += inception_score(drawn_logits(derived_seed(1, i)), 4).value / 2000;
  }
  testing::Held of_whole, of_parts;
  for (uint64_t i = 0; i < 200; ++i) {
    const auto logits = drawn_logits(derived_seed(2, i));
    of_whole.add(inception_score_interval(logits, 1, i), whole);
    of_parts.add(inception_score_of_rows_interval(logits, 100, i), parts);
  }
  of_whole.expect("Inception Score, one part", 0.95);
  of_parts.expect("Inception Score, four parts", 0.95);
}

RC_GTEST_PROP(KernelDistance, OfWholeSetsIsItsDefinitionAndSymmetric, ()) {
  const auto n = *rc::gen::inRange<int64_t>(2, 30), m = *rc::gen::inRange<int64_t>(2, 30);
  const auto width = *rc::gen::inRange<int64_t>(1, 9);
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto x = normal({n, width}, seed), y = normal({m, width}, seed + 1) + 0.5;
  const auto kernel = [&](const at::Tensor& a, const at::Tensor& b) { return (a.mm(b.t()) / width + 1).pow(3); };
  const auto without_diagonal = [&](const at::Tensor& a) {
    const auto k = kernel(a, a);
    return ((k.sum() - k.trace()) / (a.size(0) * (a.size(0) - 1))).item<double>();
  };
  const double expected = without_diagonal(x) + without_diagonal(y) - 2 * kernel(x, y).mean().item<double>();
  RC_ASSERT(std::abs(kernel_distance_whole(x, y) - expected) < 1e-9 * (1 + std::abs(expected)));
  RC_ASSERT(std::abs(kernel_distance_whole(y, x) - expected) < 1e-9 * (1 + std::abs(expected)));
}

TEST(KernelDistance, OfOneSubsetThatIsTheWholeSetIsThatOfWholeSets) {
  const auto x = normal({50, 6}, 1), y = normal({50, 6}, 2) + 0.3;
  const auto found = kernel_distance(x, y, {.subsets = 3, .subset_size = 50});
  EXPECT_NEAR(found.value, kernel_distance_whole(x, y), 1e-12);
  EXPECT_NEAR(found.deviation, 0, 1e-12);
  const auto fewer = kernel_distance(x, y.slice(0, 0, 20), {.draws = KernelDraws::second_then_first});
  EXPECT_EQ(fewer.subset_size, 20);
}

// Normal rows about 0 and about 0.4; their distance from sets of 4,000 rows, 20 of them.
TEST(KernelDistanceInterval, HoldsTheDistanceInNinetyFiveOfAHundred) {
  const auto first = [](uint64_t seed, int64_t n = 200) { return normal({n, 3}, derived_seed(seed, 0)); };
  const auto second = [](uint64_t seed, int64_t n = 200) { return normal({n, 3}, derived_seed(seed, 1)) + 0.4; };
  double truth = 0;
  for (uint64_t i = 0; i < 20; ++i) truth += kernel_distance_whole(first(i, 4000), second(i, 4000)) / 20;
  testing::Held of_whole, of_subsets, of_equal;
  for (uint64_t i = 0; i < 200; ++i) {
    const uint64_t seed = 1000 + i;
    const auto x = first(seed), y = second(seed);
    of_whole.add(kernel_distance_interval(x, y, {.value = kernel_distance_whole(x, y)}, seed), truth);
    const auto by_subsets = kernel_distance(x, y, {.subsets = 20, .subset_size = 50});
    of_subsets.add(kernel_distance_interval(x, y, by_subsets, seed), truth);
    const auto z = first(seed + 1000);
    of_equal.add(kernel_distance_interval(x, z, {.value = kernel_distance_whole(x, z)}, seed), 0);
  }
  of_whole.expect("kernel distance, whole sets", 0.95, 0.995);
  // The noise of subsets is bounded from above and equal sets' parts spread more than in proportion.
  of_subsets.expect("kernel distance, subsets", 0.95, 1);
  of_equal.expect("kernel distance, equal distributions", 0.95, 1);
}

TEST(Scores, RefuseWhatHasNoScore) {
  const auto rows = normal({6, 3}, 1);
  auto broken = rows.clone();
  broken[1][2] = std::numeric_limits<double>::infinity();
  EXPECT_THAT(message_of([&] { inception_score(rows, 7); }), HasSubstr("1 to 6"));
  EXPECT_THAT(message_of([&] { inception_score(broken, 1); }), HasSubstr("finite"));
  EXPECT_THAT(message_of([&] { inception_score(rows.slice(0, 0, 0), 1); }), HasSubstr("at least 1"));
  EXPECT_THAT(message_of([&] { inception_score_of_rows(rows, 0); }), HasSubstr("at least 1"));
  EXPECT_THAT(message_of([&] { inception_score_interval(rows, 1, 1, 5); }), HasSubstr("at least 40"));
  EXPECT_THAT(message_of([&] { kernel_distance(rows, rows); }), HasSubstr("expected 1000, got 6"));
  EXPECT_THAT(message_of([&] { kernel_distance(rows, rows, {.subset_size = 1}); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { kernel_distance(rows, rows, {.subsets = 0}); }), HasSubstr("at least 1"));
  EXPECT_THAT(message_of([&] { kernel_distance_whole(rows, rows.slice(1, 0, 2)); }), HasSubstr("widths"));
  EXPECT_THAT(message_of([&] { kernel_distance_whole(broken, rows); }), HasSubstr("first set: values that are not"));
  EXPECT_THAT(message_of([&] { kernel_distance_whole(rows, rows.slice(0, 0, 1)); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { kernel_distance_interval(rows, rows, {}, 1); }), HasSubstr("too few rows"));
}

}  // namespace
}  // namespace nextscale
