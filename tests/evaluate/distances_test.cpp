#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/evaluate/frechet.h"
#include "nextscale/evaluate/neighbours.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/metrics.h"
#include "nextscale/tests/support/recipe.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::message_of;
using testing::normal;
using testing::recipe_integers;
using testing::recipe_tensor;

FeatureStatistics statistics(const at::Tensor& rows, int64_t piece = 1 << 20) {
  FeatureStatistics all;
  for (const auto& some : rows.split(piece)) all.add(some);
  return all;
}

double largest_apart(double a, double b) { return std::abs(a - b); }

struct Pair {
  const char* name;
  at::Tensor x, y;
  double exact;      // the nuclear norm in float64, by another implementation
  double symmetric;  // tolerance of the route over covariances
};

/// Feature sets from the weight recipe and the distances that an independent float64 implementation finds.
std::vector<Pair> known_pairs() {
  const auto set = [](const char* name, std::vector<int64_t> shape, double scale, double offset) {
    return recipe_tensor(std::string("evaluate/features/") + name, shape, scale, offset);
  };
  const auto grid = recipe_integers("evaluate/features/grid", {256, 32}, 256).to(at::kFloat) / 64;
  const auto columns = [&](int64_t begin, int64_t end) { return grid.slice(1, begin, end); };
  const auto steps = 0.25 * at::arange(32).remainder(5).to(at::kFloat);
  return {
      {"uniform", set("uniform_x", {300, 64}, 1, 0.5), set("uniform_y", {300, 64}, 1.125, 0.625), 4.031786434989137,
       1e-10},
      {"fewer rows than columns", set("deficient_x", {200, 2048}, 0.5, 0.5),
       set("deficient_y", {200, 2048}, 0.5, 0.5625), 261.71890046999704, -1},
      {"shifted", grid, grid + steps, 11.3125, 1e-10},
      {"doubled", grid, 2 * grid, 167.57618989782299, 1e-10},
      {"one dimension", columns(0, 1), 0.5 * columns(1, 2), 1.1547393570535318, 1e-10},
      {"two rows", grid.slice(0, 0, 2).slice(1, 0, 4), grid.slice(0, 2, 4).slice(1, 0, 4), 5.76959228515625, 1e-6},
      {"duplicate columns", at::cat({columns(0, 6), columns(0, 6)}, 1), at::cat({columns(6, 12), columns(12, 18)}, 1),
       9.681963634822903, 1e-6},
  };
}

TEST(FrechetDistance, FindsWhatAnIndependentImplementationFinds) {
  for (const auto& pair : known_pairs()) {
    SCOPED_TRACE(pair.name);
    EXPECT_NEAR(frechet_distance(pair.x, pair.y).value, pair.exact, 1e-8 * pair.exact);
    // Two decompositions of 2048 columns take longer than they teach.
    if (pair.symmetric < 0) continue;
    EXPECT_NEAR(frechet_distance(statistics(pair.x), statistics(pair.y)).value, pair.exact,
                pair.symmetric * pair.exact);
  }
}

TEST(FrechetDistance, IsTheClosedFormWhereCovariancesAreDiagonal) {
  // Columns of a Hadamard matrix are orthogonal and have mean 0, so scaled columns have a diagonal covariance exactly.
  auto hadamard = at::ones({1, 1}, at::kDouble);
  for (int i = 0; i < 6; ++i) hadamard = at::cat({at::cat({hadamard, hadamard}, 1), at::cat({hadamard, -hadamard}, 1)});
  const auto columns = hadamard.slice(1, 1, 17);  // (64, 16)
  const auto scale_x = 1 + at::arange(16, at::kDouble) / 8, scale_y = 2 - at::arange(16, at::kDouble) / 16;
  const double closed = 16 * 0.25 + 64.0 / 63 * (scale_x - scale_y).square().sum().item<double>();
  const auto x = columns * scale_x, y = columns * scale_y + 0.5;
  EXPECT_NEAR(frechet_distance(x, y).value, closed, 1e-11);
  EXPECT_NEAR(frechet_distance(statistics(x), statistics(y)).value, closed, 1e-11);
}

RC_GTEST_PROP(FrechetDistance, IsSymmetricZeroOnItselfAndTheSameByBothRoutes, ()) {
  const auto width = *rc::gen::inRange<int64_t>(1, 12);
  const auto n = *rc::gen::inRange<int64_t>(width + 2, 40), m = *rc::gen::inRange<int64_t>(width + 2, 40);
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto x = normal({n, width}, seed), y = normal({m, width}, seed + 1) * 2 + 1;
  const double there = frechet_distance(x, y).value;
  RC_ASSERT(there > 0);
  RC_ASSERT(largest_apart(there, frechet_distance(y, x).value) < 1e-10 * (1 + there));
  RC_ASSERT(largest_apart(there, frechet_distance(statistics(x), statistics(y)).value) < 1e-6 * (1 + there));
  RC_ASSERT(largest_apart(0, frechet_distance(x, x).value) < 1e-10);
}

TEST(FrechetDistance, SaysWhichSideLacksRank) {
  const auto full = normal({50, 8}, 1), few = normal({5, 8}, 2);
  auto doubled = normal({50, 8}, 3);
  doubled.select(1, 7).copy_(doubled.select(1, 0) * 2);
  const auto check = [](const FrechetDistance& found, int64_t rank_a, int64_t rank_b, bool deficient) {
    EXPECT_EQ(found.rank_a, rank_a);
    EXPECT_EQ(found.rank_b, rank_b);
    EXPECT_EQ(found.deficient(), deficient);
  };
  check(frechet_distance(full, full + 1), 8, 8, false);
  check(frechet_distance(full, few), 8, 4, true);
  check(frechet_distance(doubled, full), 7, 8, true);
  check(frechet_distance(statistics(full), statistics(few)), 8, 4, true);
  check(frechet_distance(statistics(doubled), statistics(full)), 7, 8, true);
}

TEST(FeatureStatistics, DoNotDependOnThePiecesAndKeepTheirDigitsFarFromZero) {
  const auto rows = normal({101, 5}, 7) + 1e6;
  const auto centred = rows - rows.mean(0);
  const auto covariance = centred.t().mm(centred) / 100;
  FeatureStatistics merged = statistics(rows.slice(0, 0, 40), 7);
  merged.merge(statistics(rows.slice(0, 40), 9));
  merged.merge({});
  for (const auto& found : {statistics(rows), statistics(rows, 1), statistics(rows, 10), merged}) {
    EXPECT_EQ(found.count(), 101);
    EXPECT_TRUE(all_close(found.mean(), rows.mean(0), {.relative = 1e-15}));
    EXPECT_TRUE(all_close(found.covariance(), covariance, {.absolute = 1e-8}));
  }
}

TEST(FrechetDistance, RefusesWhatHasNoDistance) {
  const auto rows = normal({4, 3}, 1);
  auto broken = rows.clone();
  broken[1][2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message_of([&] { frechet_distance(rows, rows.slice(0, 0, 1)); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { frechet_distance(rows, rows.slice(1, 0, 2)); }), HasSubstr("widths"));
  EXPECT_THAT(message_of([&] { frechet_distance(rows, broken); }), HasSubstr("finite"));
  EXPECT_THAT(message_of([&] { frechet_distance(rows, rows[0]); }), HasSubstr("(n, D)"));
  EXPECT_THAT(message_of([&] { frechet_distance(statistics(rows), {}); }), HasSubstr("at least 2"));
  EXPECT_THAT(message_of([&] { statistics(rows).covariance(), FeatureStatistics().covariance(); }), HasSubstr("rows"));
}

RC_GTEST_PROP(NearestNeighbours, AreThoseOfAllPairsWhateverTheBlock, ()) {
  const auto width = *rc::gen::inRange<int64_t>(1, 6);
  const auto n = *rc::gen::inRange<int64_t>(1, 20), m = *rc::gen::inRange<int64_t>(1, 40);
  const auto k = *rc::gen::inRange<int64_t>(1, m + 1), block = *rc::gen::inRange<int64_t>(1, 50);
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 30);
  const auto queries = normal({n, width}, seed), references = normal({m, width}, seed + 1);
  const auto found = nearest_neighbours(queries, references, k, block);
  const auto all = (queries.unsqueeze(1) - references.unsqueeze(0)).square().sum(2).sqrt();  // (n, m)
  const auto [distances, indices] = all.sort(1);
  RC_ASSERT(bool(all_close(found.distances, distances.slice(1, 0, k), {.absolute = 1e-12})));
  RC_ASSERT(found.indices.equal(indices.slice(1, 0, k)));
}

TEST(NearestNeighbours, GiveACopyDistanceZeroFarFromTheOrigin) {
  const auto references = (normal({1000, 16}, 5) + 1e4).to(at::kFloat);
  const auto found = nearest_neighbours(references.slice(0, 600), references, 1, 128);
  EXPECT_TRUE(all_close(found.distances, at::zeros({400, 1}, at::kDouble)));
  EXPECT_TRUE(all_close(found.indices.flatten(), at::arange(600, 1000)));
}

TEST(NearestNeighbours, GiveEqualDistancesToTheLowerRowWhateverTheBlock) {
  const auto references = at::tensor({3.0, 1.0, -1.0, 1.0, 5.0, -1.0}).unsqueeze(1).to(at::kFloat) + 1000;
  for (const int64_t block : {1, 2, 100}) {
    const auto found = nearest_neighbours(at::full({1, 1}, 1000.0F), references, 5, block);
    EXPECT_TRUE(all_close(found.indices.flatten(), at::tensor({1, 2, 3, 5, 0}, at::kLong)));
    EXPECT_TRUE(all_close(found.distances.flatten(), at::tensor({1.0, 1.0, 1.0, 1.0, 3.0}, at::kDouble)));
  }
}

TEST(NearestNeighbours, RefuseMoreNeighboursThanThereAre) {
  const auto rows = normal({4, 3}, 1);
  EXPECT_THAT(message_of([&] { nearest_neighbours(rows, rows, 5); }), HasSubstr("1 to 4"));
  EXPECT_THAT(message_of([&] { nearest_neighbours(rows, rows, 0); }), HasSubstr("1 to 4"));
  EXPECT_THAT(message_of([&] { nearest_neighbours(rows.slice(1, 0, 2), rows, 1); }), HasSubstr("widths"));
  EXPECT_THAT(message_of([&] { nearest_neighbours(rows.slice(0, 0, 0), rows, 1); }), HasSubstr("queries"));
}

TEST(Memorisation, CountsSamplesThatSitOnATrainingPicture) {
  const auto training = normal({500, 8}, 1), held_out = normal({200, 8}, 2), fresh = normal({90, 8}, 3);
  const auto near = training.slice(0, 10, 20) + 1e-3;
  const auto found = memorisation(at::cat({fresh, near}), training, held_out);
  EXPECT_NEAR(found.share, 0.10, 1e-12);
  EXPECT_EQ(found.held_out_share, 0);
  EXPECT_NEAR(found.sample_median / found.held_out_median, 1, 0.2);
  EXPECT_EQ(memorisation(fresh, training, held_out).share, 0);
  EXPECT_EQ(memorisation(training, training, held_out).share, 1);
}

TEST(MemorisationReport, ListsCopiesFirstAndNewPicturesLast) {
  auto training = normal({500, 8}, 1);
  training[20].copy_(training[21]);  // a picture that stands there twice
  const auto held_out = normal({200, 8}, 2), fresh = normal({90, 8}, 3);
  const auto near = training.slice(0, 10, 19) + 1e-3, twice = training.slice(0, 21, 22);
  const auto samples = at::cat({fresh, near, twice});
  const auto found = memorisation_report(samples, training, held_out);
  const auto all_training = (samples.unsqueeze(1) - training.unsqueeze(0)).square().sum(2).sqrt();
  EXPECT_TRUE(all_close(found.nearest, std::get<0>(all_training.sort(1)).slice(1, 0, 2), {.absolute = 1e-12}));
  EXPECT_TRUE(all_close(std::get<0>(found.suspicious.slice(0, 0, 10).sort()), at::arange(90, 100)));
  EXPECT_EQ(found.suspicious[0].item<int64_t>(), 99);
  EXPECT_EQ(found.ratios[99].item<double>(), 0);
  EXPECT_TRUE(all_close(found.indices[99], at::tensor({20, 21}, at::kLong)));
  EXPECT_TRUE(all_close(found.indices.slice(0, 90, 99).select(1, 0), at::arange(10, 19)));
  EXPECT_NEAR(found.ratio_share, 0.10, 1e-12);
  EXPECT_LE(found.held_out_ratio_share, 0.01);  // one of 200 by chance
  EXPECT_NEAR(found.median_ratio / found.held_out_median_ratio, 1, 0.1);
  const auto plain = memorisation(samples, training, held_out);
  EXPECT_EQ(found.distances.share, plain.share);
  EXPECT_EQ(found.distances.held_out_median, plain.held_out_median);
  EXPECT_THAT(message_of([&] { memorisation_report(samples, training.slice(0, 0, 1), held_out); }),
              HasSubstr("at least 2"));
}

}  // namespace
}  // namespace nextscale
