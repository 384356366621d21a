#include "nextscale/evaluate/manifold.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/metrics.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::normal;

/// The definitions over all pairs at once, distances from the differences.
Manifold plainly(const at::Tensor& generated, const at::Tensor& reference, int64_t k, bool closed) {
  const auto squared = [](const at::Tensor& a, const at::Tensor& b) {
    return (a.to(at::kDouble).unsqueeze(1) - b.to(at::kDouble).unsqueeze(0)).square().sum(2);
  };
  const auto radii = [&](const at::Tensor& rows) {
    return std::get<0>(squared(rows, rows).sort(1)).select(1, k);  // itself comes first
  };
  const auto inside = [&](const at::Tensor& d, const at::Tensor& r) { return closed ? d <= r : d < r; };
  const auto d = squared(generated, reference);                        // (n, m)
  const auto in_reference = inside(d, radii(reference).unsqueeze(0));  // (n, m)
  const auto in_generated = inside(d, radii(generated).unsqueeze(1));  // (n, m)
  return {.precision_count = in_reference.any(1).sum().item<int64_t>(),
          .recall_count = in_generated.any(0).sum().item<int64_t>(),
          .coverage_count = in_reference.any(0).sum().item<int64_t>(),
          .balls = in_reference.sum().item<int64_t>()};
}

bool same_counts(const Manifold& a, const Manifold& b) {
  return a.precision_count == b.precision_count && a.recall_count == b.recall_count &&
         a.coverage_count == b.coverage_count && a.balls == b.balls;
}

RC_GTEST_PROP(Manifold, IsTheDefinitionWhateverTheBlockAndHoweverManyTies, ()) {
  const auto width = *rc::gen::inRange<int64_t>(1, 20);
  const auto n = *rc::gen::inRange<int64_t>(2, 40), m = *rc::gen::inRange<int64_t>(2, 40);
  const auto k = *rc::gen::inRange<int64_t>(1, std::min(n, m));
  const auto block = *rc::gen::inRange<int64_t>(1, 50);
  const auto closed = *rc::gen::arbitrary<bool>(), tied = *rc::gen::arbitrary<bool>();
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  auto generated = normal({n, width}, seed).to(at::kFloat), reference = normal({m, width}, seed + 1).to(at::kFloat);
  // Few distinct values far from 0: most distances are equal to others, many rows equal.
  if (tied) generated = generated.round() + 1000, reference = reference.round() + 1000;
  const ManifoldOptions options{.k = k, .inside = closed ? Inside::closed : Inside::open, .block = block};
  RC_ASSERT(same_counts(compare_manifolds(generated, reference, options), plainly(generated, reference, k, closed)));
}

TEST(Manifold, ContainsItselfExactly) {
  // Neither an offset that costs digits nor a scale that loses them makes a row fall out of its own ball.
  for (const double offset : {0.0, 1e4}) {
    const auto rows = (normal({200, 33}, 1) + offset).to(at::kFloat);
    const auto closed = compare_manifolds(rows, rows, {.k = 3, .block = 32});
    EXPECT_EQ(closed.precision_count, 200);
    EXPECT_EQ(closed.recall_count, 200);
    EXPECT_EQ(closed.coverage_count, 200);
    // The k-th neighbour itself lies on the surface: k rows and the centre inside, or one less where balls are open.
    const auto open = compare_manifolds(rows, rows, {.k = 3, .inside = Inside::open});
    EXPECT_EQ(closed.balls, 200 * 4) << offset;
    EXPECT_EQ(open.balls, 200 * 3) << offset;
  }
}

TEST(Manifold, OfFarSetsIsEmptyAndOfEqualOnesFull) {
  const auto reference = normal({100, 4}, 1);
  const auto far = compare_manifolds(normal({80, 4}, 2) + 100, reference);
  EXPECT_EQ(far.precision, 0);
  EXPECT_EQ(far.recall, 0);
  EXPECT_EQ(far.density, 0);
  EXPECT_EQ(far.coverage, 0);
  // One generated row many times: all precise, nothing recalled but by that row's ball of radius 0.
  const auto one = compare_manifolds(reference.slice(0, 7, 8).repeat({50, 1}), reference);
  EXPECT_EQ(one.precision, 1);
  EXPECT_EQ(one.recall_count, 1);
}

TEST(Manifold, InHalfPrecisionStaysNearTheExactShares) {
  const auto reference = normal({300, 64}, 1).to(at::kFloat), generated = (normal({250, 64}, 2) * 0.9).to(at::kFloat);
  const auto exact = compare_manifolds(generated, reference),
             half = compare_manifolds(generated, reference, {.half = true});
  EXPECT_NEAR(half.precision, exact.precision, 0.02);
  EXPECT_NEAR(half.recall, exact.recall, 0.02);
  EXPECT_NEAR(half.density, exact.density, 0.02 * exact.density);
  EXPECT_NEAR(half.coverage, exact.coverage, 0.02);
  // Where float16 overflows the whole block is float32: the exact counts.
  const auto large = compare_manifolds(generated * 4000, reference * 4000, {.half = true});
  EXPECT_TRUE(same_counts(large, exact));
}

TEST(Manifold, TellsHowFarItIs) {
  const auto rows = normal({100, 4}, 1);
  for (const bool half : {false, true}) {
    int64_t last = 0, of = 0;
    compare_manifolds(rows, rows.slice(0, 0, 60), {.half = half, .block = 16}, [&](int64_t done, int64_t all) {
      EXPECT_GT(done, last);
      last = done;
      of = all;
    });
    EXPECT_EQ(last, of);
  }
}

TEST(Manifold, RefusesWhatHasNoBalls) {
  const auto rows = normal({6, 3}, 1);
  auto broken = rows.clone();
  broken[1][2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message_of([&] { compare_manifolds(rows, rows, {.k = 6}); }), HasSubstr("1 to 5 for 6 rows"));
  EXPECT_THAT(message_of([&] { compare_manifolds(rows, rows, {.k = 0}); }), HasSubstr("k is out of range"));
  EXPECT_THAT(message_of([&] { compare_manifolds(rows, rows.slice(1, 0, 2)); }), HasSubstr("widths"));
  EXPECT_THAT(message_of([&] { compare_manifolds(broken, rows); }), HasSubstr("generated set: values that are not"));
  EXPECT_THAT(message_of([&] { compare_manifolds(rows, broken); }), HasSubstr("reference: values that are not"));
  EXPECT_THAT(message_of([&] { compare_manifolds(rows.slice(0, 0, 1), rows); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { compare_manifolds(rows[0], rows); }), HasSubstr("(n, D)"));
  EXPECT_THAT(message_of([&] { manifold_intervals(rows, rows, {.k = 3}, 1, 2); }), HasSubstr("more than 3 rows"));
}

TEST(ManifoldIntervals, LeaveOutWhatASmallerSetWouldNotHave) {
  const auto reference = normal({120, 5}, 1).to(at::kFloat), generated = normal({90, 5}, 2).to(at::kFloat);
  const ManifoldOptions options{.k = 3};
  const auto found = manifold_intervals(generated, reference, options, 7, 3);
  std::vector<double> precision, recall, density, coverage;
  const auto groups = random_groups(90, 3, 7);
  for (size_t group = 0; group < 3; ++group) {
    const auto left = at::cat({groups[(group + 1) % 3], groups[(group + 2) % 3]});
    const auto alone = compare_manifolds(generated.index_select(0, left), reference, options);
    precision.push_back(alone.precision), recall.push_back(alone.recall);
    density.push_back(alone.density), coverage.push_back(alone.coverage);
  }
  const auto same = [](const Interval& a, const Interval& b, double most = 1) {
    EXPECT_NEAR(a.low, std::max(b.low, 0.0), 1e-12);
    EXPECT_NEAR(a.high, std::min(b.high, most), 1e-12);
  };
  same(found.precision, jackknife_interval(found.value.precision, precision));
  same(found.recall, jackknife_interval(found.value.recall, recall));
  same(found.density, jackknife_interval(found.value.density, density), 100);
  same(found.coverage, jackknife_interval(found.value.coverage, coverage));
}

// Generated sets drawn again beside one reference.
TEST(ManifoldIntervals, HoldTheExpectationInNinetyFiveOfAHundred) {
  constexpr int64_t kRows = 200, kWidth = 3, kRepetitions = 200;
  const auto reference = normal({300, kWidth}, 1);
  const ManifoldOptions options{.k = 3};
  const auto drawn = [&](uint64_t seed) { return normal({kRows, kWidth}, seed) * 1.3; };
  Manifold mean;
  constexpr int64_t kDraws = 2000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const auto one = compare_manifolds(drawn(derived_seed(2, static_cast<uint64_t>(i))), reference, options);
    mean.precision += one.precision / kDraws, mean.recall += one.recall / kDraws;
    mean.density += one.density / kDraws, mean.coverage += one.coverage / kDraws;
  }
  testing::Held precision, recall, density, coverage;
  for (int64_t i = 0; i < kRepetitions; ++i) {
    const auto seed = derived_seed(3, static_cast<uint64_t>(i));
    const auto found = manifold_intervals(drawn(seed), reference, options, seed);
    precision.add(found.precision, mean.precision);
    recall.add(found.recall, mean.recall);
    density.add(found.density, mean.density);
    coverage.add(found.coverage, mean.coverage);
  }
  precision.expect("precision", 0.95);
  density.expect("density", 0.95);
  recall.expect("recall", 0.95, 1);  // leaving rows out moves recall more than drawing them again: about twice as wide
  coverage.expect("coverage", 0.95);
}

}  // namespace
}  // namespace nextscale
