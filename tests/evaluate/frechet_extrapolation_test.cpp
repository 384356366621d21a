#include "nextscale/evaluate/frechet_extrapolation.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/metrics.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::message_of;
using testing::normal;

FeatureStatistics statistics_of_all(const at::Tensor& rows) {
  FeatureStatistics found;
  found.add(rows);
  return found;
}

RC_GTEST_PROP(FeatureStatistics, WithoutAPartAreThoseOfTheRest, ()) {
  const auto width = *rc::gen::inRange<int64_t>(1, 6), n = *rc::gen::inRange<int64_t>(3, 40);
  const auto cut = *rc::gen::inRange<int64_t>(0, n - 1);
  const auto rows = normal({n, width}, *rc::gen::inRange<uint64_t>(0, 1 << 30)) + 100;
  const auto left = statistics_of_all(rows).without(statistics_of_all(rows.slice(0, 0, cut)));
  const auto rest = statistics_of_all(rows.slice(0, cut));
  RC_ASSERT(left.count() == n - cut);
  RC_ASSERT(bool(all_close(left.mean(), rest.mean(), {.absolute = 1e-10})));
  RC_ASSERT(bool(all_close(left.covariance(), rest.covariance(), {.absolute = 1e-9})));
}

TEST(FeatureStatistics, OfAFileAreTheDistanceOfItsRowsWhetherItCountsThemOrNot) {
  const auto x = normal({60, 5}, 1), y = normal({70, 5}, 2) * 2;
  const auto of_x = statistics_of_all(x);
  const double expected = frechet_distance(x, y).value;
  for (const int64_t count : {0, 60}) {
    const auto read = FeatureStatistics::from_moments(of_x.mean(), of_x.covariance(), count);
    EXPECT_EQ(read.counted(), count != 0);
    EXPECT_EQ(read.count(), count);
    EXPECT_EQ(read.width(), 5);
    for (const auto& found : {frechet_distance(read, statistics_of_all(y)), FrechetReference(read).distance(y)}) {
      EXPECT_NEAR(found.value, expected, 1e-10);
      EXPECT_EQ(found.rank_a, 5);
      EXPECT_FALSE(found.deficient());
    }
    EXPECT_NEAR(frechet_distance(statistics_of_all(y), read).value, expected, 1e-10);
  }
}

TEST(FrechetReference, GivesTheDistanceOfBothSetsByRowsAndByStatistics) {
  const auto x = normal({60, 5}, 1), y = normal({70, 5}, 2) * 2 + 1;
  const double expected = frechet_distance(x, y).value;
  for (const auto& reference : {FrechetReference(x), FrechetReference(statistics_of_all(x))}) {
    EXPECT_NEAR(reference.value(y), expected, 1e-11);
    EXPECT_NEAR(reference.value(statistics_of_all(y)), expected, 1e-11);
  }
}

struct Populations {
  int64_t width = 6;
  at::Tensor scale = 1 + at::arange(6, at::kDouble) / 6;
  FeatureStatistics reference() const {  // exactly the population's
    return FeatureStatistics::from_moments(at::zeros({width}, at::kDouble), at::eye(width, at::kDouble), 0);
  }
  at::Tensor drawn(int64_t n, uint64_t seed) const { return normal({n, width}, seed) * scale + 0.25; }
};

TEST(FrechetAtInfinity, IsZeroForRowsOfTheReferencesOwnDistributionWhereTheDistanceItselfLiesAbove) {
  const FrechetReference reference(Populations().reference());
  double plain = 0, extrapolated = 0;
  for (uint64_t i = 0; i < 60; ++i) {
    const auto rows = normal({300, 6}, derived_seed(1, i));
    plain += reference.value(rows) / 60;
    extrapolated += frechet_at_infinity(rows, reference, i).value / 60;
  }
  EXPECT_NEAR(plain, 0.055, 0.004);  // to first order the mean's D/N and the covariance's D(D + 1)/4N
  EXPECT_LT(std::abs(extrapolated), 0.2 * plain) << "plain " << plain;
}

TEST(FrechetAtInfinity, IsTheLineThroughItsPoints) {
  const Populations populations;
  const auto rows = populations.drawn(100, 1);
  const FrechetReference reference(populations.reference());
  int64_t told = 0;
  const auto found =
      frechet_at_infinity(rows, reference, 3, {.points = 2, .least = 40}, [&](int64_t done, int64_t all) {
        EXPECT_EQ(all, 2);
        told = done;
      });
  EXPECT_EQ(told, 2);
  ASSERT_EQ(found.points.size(), 2U);
  EXPECT_EQ(found.points[0].first, 40);
  EXPECT_EQ(found.points[1].first, 100);
  EXPECT_NEAR(found.points[1].second, reference.value(rows), 1e-10);
  for (const auto& [n, value] : found.points) {
    EXPECT_NEAR(found.value + found.slope / static_cast<double>(n), value, 1e-10);
  }
}

TEST(FrechetInterval, LeavesEachGroupOutByRowsAsByStatistics) {
  // 20 rows of 24 columns go by rows; the same rows with 4 columns by statistics.
  for (const int64_t width : {24, 4}) {
    const auto rows = normal({20, width}, 1), other = normal({60, width}, 2);
    const FrechetReference reference(other);
    std::vector<double> without;
    const auto groups = random_groups(20, 5, 9);
    for (size_t group = 0; group < 5; ++group) {
      auto left = groups;
      left.erase(left.begin() + static_cast<std::ptrdiff_t>(group));
      without.push_back(frechet_distance(other, rows.index_select(0, at::cat(left))).value);
    }
    const double value = reference.value(rows);
    const auto found = frechet_interval(value, rows, reference, 9, 5), expected = jackknife_interval(value, without);
    EXPECT_NEAR(found.low, expected.low, 1e-9);
    EXPECT_NEAR(found.high, expected.high, 1e-9);
  }
}

TEST(FrechetInterval, HoldsTheExpectationInNinetyFiveOfAHundred) {
  const Populations populations;
  const FrechetReference reference(populations.reference());
  double mean = 0;
  for (uint64_t i = 0; i < 2000; ++i) mean += reference.value(populations.drawn(150, derived_seed(1, i))) / 2000;
  testing::Held held;
  for (uint64_t i = 0; i < 300; ++i) {
    const auto rows = populations.drawn(150, derived_seed(2, i));
    held.add(frechet_interval(reference.value(rows), rows, reference, i), mean);
  }
  held.expect("Fréchet distance", 0.95);
}

TEST(FrechetAdditions, RefuseWhatTheyCannotUse) {
  const auto rows = normal({10, 3}, 1);
  const auto mean = at::zeros({3}), eye = at::eye(3);
  const auto moments = [](const at::Tensor& m, const at::Tensor& c, int64_t n) {
    return message_of([&] { FeatureStatistics::from_moments(m, c, n); });
  };
  auto skewed = eye.clone(), negative = eye.clone(), broken = eye.clone(), indefinite = eye.clone();
  skewed[0][1] = 0.5;
  negative[1][1] = -1;
  broken[2][2] = NAN;
  indefinite[0][1] = indefinite[1][0] = 2;
  EXPECT_THAT(moments(mean, at::eye(4), 0), HasSubstr("(D) and (D, D)"));
  EXPECT_THAT(moments(mean, eye, 1), HasSubstr("at least 2"));
  EXPECT_THAT(moments(mean, skewed, 0), HasSubstr("not symmetric"));
  EXPECT_THAT(moments(mean, negative, 0), HasSubstr("below 0"));
  EXPECT_THAT(moments(mean, broken, 0), HasSubstr("finite"));
  EXPECT_THAT(message_of([&] { FrechetReference(FeatureStatistics::from_moments(mean, indefinite, 0)); }),
              HasSubstr("eigenvalue below 0"));
  auto uncounted = FeatureStatistics::from_moments(mean, eye, 0);
  EXPECT_THAT(message_of([&] { uncounted.add(rows); }), HasSubstr("unknown number"));
  EXPECT_THAT(message_of([&] { uncounted.merge(statistics_of_all(rows)); }), HasSubstr("unknown number"));
  EXPECT_THAT(message_of([&] { statistics_of_all(rows).merge(uncounted); }), HasSubstr("unknown number"));
  EXPECT_THAT(message_of([&] { statistics_of_all(rows).without(statistics_of_all(rows)); }),
              HasSubstr("fewer than 10"));
  const FrechetReference reference(uncounted);
  EXPECT_THAT(message_of([&] { frechet_at_infinity(rows, reference, 1, {.points = 1}); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { frechet_at_infinity(rows, reference, 1, {.least = 10}); }), HasSubstr("2 to 9"));
  EXPECT_THAT(message_of([&] { frechet_interval(1, rows, reference, 1, 1); }), HasSubstr("2 to 10"));
  EXPECT_THAT(message_of([&] { frechet_interval(1, rows.slice(1, 0, 2), reference, 1); }), HasSubstr("widths"));
  EXPECT_THAT(message_of([&] { FrechetReference{rows.slice(0, 0, 1)}; }), HasSubstr("at least 2"));
}

}  // namespace
}  // namespace nextscale
