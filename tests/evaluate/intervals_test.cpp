#include "nextscale/evaluate/intervals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/evaluate/numpy_order.h"
#include "nextscale/tests/support/metrics.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::normal;

TEST(StudentT, HasTheQuantilesOfTheTables) {
  // scipy.stats.t.ppf(0.975, degrees)
  EXPECT_NEAR(student_t_95(1), 12.706204736432095, 1e-9);
  EXPECT_NEAR(student_t_95(2), 4.302652729911275, 1e-9);
  EXPECT_NEAR(student_t_95(9), 2.2621571627409915, 1e-9);
  EXPECT_NEAR(student_t_95(30), 2.0422724563012373, 1e-9);
  EXPECT_NEAR(student_t_95(1'000'000), 1.959966357, 1e-8);
}

RC_GTEST_PROP(JackknifeInterval, OfAMeanIsStudentsOwn, ()) {
  // Leaving single values out of a mean gives the ordinary standard error.
  const auto n = *rc::gen::inRange<int64_t>(2, 30);
  const auto values = normal({n}, *rc::gen::inRange<uint64_t>(0, 1 << 30)) * 3 + 7;
  const double mean = values.mean().item<double>();
  std::vector<double> without, parts;
  for (int64_t i = 0; i < n; ++i) {
    parts.push_back(values[i].item<double>());
    without.push_back((mean * static_cast<double>(n) - parts.back()) / static_cast<double>(n - 1));
  }
  const double half = student_t_95(n - 1) * values.std().item<double>() / std::sqrt(static_cast<double>(n));
  for (const auto& found : {jackknife_interval(mean, without), parts_interval(mean, parts)}) {
    RC_ASSERT(std::abs(found.low - (mean - half)) < 1e-9 * (1 + half));
    RC_ASSERT(std::abs(found.high - (mean + half)) < 1e-9 * (1 + half));
  }
}

RC_GTEST_PROP(RandomGroups, HoldEachIndexOnceAndAreAsLargeAsEachOther, ()) {
  const auto n = *rc::gen::inRange<int64_t>(1, 200), groups = *rc::gen::inRange<int64_t>(1, n + 1);
  const auto found = random_groups(n, groups, *rc::gen::inRange<uint64_t>(0, 1 << 30));
  RC_ASSERT(static_cast<int64_t>(found.size()) == groups);
  for (const auto& group : found) RC_ASSERT(group.numel() == n / groups || group.numel() == n / groups + 1);
  RC_ASSERT(std::get<0>(at::cat(found).sort()).equal(at::arange(n)));
}

TEST(RandomGroups, AreNoRunsOfRows) {
  const auto first = random_groups(1000, 10, 1).front();
  EXPECT_FALSE(first.equal(at::arange(100)));
  EXPECT_NEAR(first.to(at::kDouble).mean().item<double>(), 499.5, 4 * 289 / 10.0);
  EXPECT_TRUE(first.equal(random_groups(1000, 10, 1).front()));
  EXPECT_FALSE(first.equal(random_groups(1000, 10, 2).front()));
}

TEST(PercentileInterval, IsLinearBetweenValues) {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  const auto found = percentile_interval(values);
  EXPECT_NEAR(found.low, 2.5, 1e-12);
  EXPECT_NEAR(found.high, 97.5, 1e-12);
}

// 400 sets of exponential values, mean 1. The skew of 100 values costs the percentile bootstrap about one in a hundred.
TEST(Intervals, HoldAMeanInNinetyFiveOfAHundred) {
  testing::Held jackknife, parts, bootstrap;
  for (uint64_t i = 0; i < 400; ++i) {
    const auto values = -(1 - at::erf(normal({100}, derived_seed(1, i)) / std::sqrt(2.0))).div(2).log();  // exponential
    const double mean = values.mean().item<double>();
    std::vector<double> without, of_parts;
    for (const auto& group : random_groups(100, 10, i)) {
      of_parts.push_back(values.index_select(0, group).mean().item<double>());
      without.push_back((mean * 100 - of_parts.back() * 10) / 90);
    }
    jackknife.add(jackknife_interval(mean, without), 1);
    parts.add(parts_interval(mean, of_parts), 1);
    bootstrap.add(bootstrap_mean_interval(values, i, 400), 1);
  }
  jackknife.expect("jackknife", 0.95);
  parts.expect("parts", 0.95);
  bootstrap.expect("bootstrap", 0.94);
}

TEST(Intervals, HoldAShareEvenWhereItIsSmall) {
  for (const double truth : {0.02, 0.3}) {
    testing::Held held;
    for (uint64_t i = 0; i < 1000; ++i) {
      const auto hits =
          (at::rand({200}, make_generator(derived_seed(2, i)), at::kDouble) < truth).sum().item<int64_t>();
      held.add(share_interval(hits, 200), truth);
    }
    held.expect("share of " + std::to_string(truth), 0.95, 0.99);  // few hits are lumpy
  }
  EXPECT_EQ(share_interval(0, 500).low, 0);
  EXPECT_NEAR(share_interval(0, 500).high, 0.0076, 1e-4);  // Wilson's by hand: z^2 / (n + z^2)
  EXPECT_EQ(share_interval(7, 7).high, 1);
}

RC_GTEST_PROP(NumpyOrder, IsAPermutationAndAChoiceItsBeginning, ()) {
  const auto n = *rc::gen::inRange<int64_t>(0, 300), m = *rc::gen::inRange<int64_t>(0, n + 1);
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  std::mt19937 one(seed), other(seed);
  auto order = numpy_permutation(one, n);
  const auto choice = numpy_choice(other, n, m);
  RC_ASSERT(std::equal(choice.begin(), choice.end(), order.begin()));
  RC_ASSERT(static_cast<int64_t>(choice.size()) == m);
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < n; ++i) RC_ASSERT(order[static_cast<size_t>(i)] == i);
}

TEST(Intervals, RefuseWhatHasNoSpread) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message_of([&] { jackknife_interval(1, {1}); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { parts_interval(1, {1, nan}); }), HasSubstr("finite"));
  EXPECT_THAT(message_of([&] { bootstrap_mean_interval(at::ones({1}), 1); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { bootstrap_mean_interval(at::full({3}, nan), 1); }), HasSubstr("finite"));
  EXPECT_THAT(message_of([&] { bootstrap_mean_interval(at::ones({5}), 1, 10); }), HasSubstr("at least 40"));
  EXPECT_THAT(message_of([&] { share_interval(6, 5); }), HasSubstr("6 of 5"));
  EXPECT_THAT(message_of([&] { random_groups(5, 6, 1); }), HasSubstr("1 to 5"));
  EXPECT_THAT(message_of([&] { student_t_95(0); }), HasSubstr("at least 1"));
  std::mt19937 generator(1);
  EXPECT_THAT(message_of([&] { numpy_choice(generator, 3, 4); }), HasSubstr("at least 4"));
}

}  // namespace
}  // namespace nextscale
