#include "nextscale/sample/filter_and_draw.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/sample/guidance.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale::testing {
namespace {

/// Probability of a chi-square this large or larger if `counts` are draws with `probabilities`; categories that cannot
/// come must not have come.
double chi_square_p(const at::Tensor& counts, const at::Tensor& probabilities) {
  const auto possible = probabilities > 0;
  if (counts.masked_select(possible.logical_not()).sum().item<int64_t>() != 0) return 0;
  const auto seen = counts.masked_select(possible).to(at::kDouble);
  const auto expected = probabilities.masked_select(possible).to(at::kDouble) * seen.sum();
  const auto chi = ((seen - expected).square() / expected).sum();
  const auto half_freedom = at::full({}, static_cast<double>(seen.numel() - 1) / 2, at::kDouble);
  return at::igammac(half_freedom, chi / 2).item<double>();
}

at::Tensor kept_mask(const at::Tensor& filtered) { return filtered.isinf().logical_not(); }

std::vector<float> any_logits() {
  // Quarters: ties are frequent, as they are among untrained codes.
  const auto quarters = *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-20, 21)));
  std::vector<float> logits;
  for (const int q : quarters) logits.push_back(static_cast<float>(q) / 4);
  return logits;
}

RC_GTEST_PROP(TopK, KeepsWhatIsAtLeastTheKthLargest, ()) {
  const auto logits = any_logits();
  const auto k = *rc::gen::inRange<int64_t>(1, 60);
  auto sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const float threshold = sorted[std::min(static_cast<size_t>(k), sorted.size()) - 1];
  const auto filtered = filter_logits(at::tensor(logits).view({1, 1, -1}), k, 0).view({-1});
  for (size_t i = 0; i < logits.size(); ++i) {
    const float value = filtered[static_cast<int64_t>(i)].item<float>();
    RC_ASSERT((logits[i] >= threshold ? value == logits[i] : std::isinf(value)));
  }
}

RC_GTEST_PROP(TopP, RemovesTheUnlikelyTailAndNeverTheLikeliest, ()) {
  const auto logits = any_logits();
  const double p = *rc::gen::inRange(1, 101) / 100.0;
  auto ascending = logits;
  std::sort(ascending.begin(), ascending.end());
  double total = 0;
  for (const float v : ascending) total += std::exp(static_cast<double>(v));
  // Float sums decide a code on the edge either way, so the number that goes has bounds.
  size_t surely_gone = 0;
  size_t maybe_gone = 0;
  double mass = 0;
  for (size_t i = 0; i + 1 < ascending.size(); ++i) {
    mass += std::exp(static_cast<double>(ascending[i])) / total;
    if (mass < 1 - p - 1e-5) surely_gone = i + 1;
    if (mass < 1 - p + 1e-5) maybe_gone = i + 1;
  }
  const auto filtered = filter_logits(at::tensor(logits).view({1, 1, -1}), 0, p).view({-1});
  std::vector<float> kept;
  for (int64_t i = 0; i < filtered.numel(); ++i) {
    if (!std::isinf(filtered[i].item<float>())) kept.push_back(filtered[i].item<float>());
  }
  const size_t gone = logits.size() - kept.size();
  RC_ASSERT(gone >= surely_gone);
  RC_ASSERT(gone <= maybe_gone);
  std::sort(kept.begin(), kept.end());
  RC_ASSERT(std::equal(kept.begin(), kept.end(), ascending.end() - static_cast<std::ptrdiff_t>(kept.size())));
}

TEST(FilterLogits, ZeroSwitchesAFilterOff) {
  const auto logits = at::randn({2, 3, 10}, make_generator(1));
  EXPECT_TRUE(all_close(filter_logits(logits, 0, 0), logits));
  EXPECT_TRUE(all_close(filter_logits(logits, 10, 0), logits));
  EXPECT_TRUE(all_close(filter_logits(logits, 11, 0), logits)) << "above V means V";
  EXPECT_TRUE(all_close(filter_logits(logits, 0, 1), logits)) << "the whole probability keeps everything";
}

TEST(FilterLogits, TopPCountsTheProbabilityThatTopKLeft) {
  // Alone, top-p 0.5 would keep both 0.3s or more; after top-k 2 the two are all there is, and one is enough.
  const auto logits = at::tensor({0.1, 0.1, 0.1, 0.1, 0.25, 0.35}, at::kFloat).log().view({1, 1, 6});
  EXPECT_EQ(kept_mask(filter_logits(logits, 2, 0.5)).sum().item<int64_t>(), 1);
  EXPECT_EQ(kept_mask(filter_logits(logits, 0, 0.5)).sum().item<int64_t>(), 2);
}

TEST(FilterLogits, TheLikeliestStaysHoweverSmallTopPIs) {
  const auto logits = at::randn({1, 50, 30}, make_generator(10));
  const auto kept = kept_mask(filter_logits(logits, 0, 1e-12));  // 1 - 1e-12 is 1 in float32, the whole sum
  EXPECT_TRUE(all_close(kept.sum(-1), at::ones({1, 50})));
  EXPECT_TRUE(all_close(kept.to(at::kInt).argmax(-1), logits.argmax(-1)));
}

TEST(FilterLogits, EachPositionHasItsOwnThreshold) {
  const auto logits = at::tensor({0.F, 1.F, 2.F, 12.F, 11.F, 10.F}).view({1, 2, 3});
  const auto expected = at::tensor({0, 0, 1, 1, 0, 0}).view({1, 2, 3}).to(at::kBool);
  EXPECT_TRUE(all_close(kept_mask(filter_logits(logits, 1, 0)), expected));
}

TEST(DrawTokens, AreTheNumbersOfMultinomial) {
  for (const int64_t codes : {1, 2, 17, 300}) {
    SCOPED_TRACE(codes);
    const auto logits = filter_logits(at::randn({3, 5, codes}, make_generator(2)).mul(3), 20, 0.9);
    auto ours = make_generator(3);
    auto theirs = make_generator(3);
    const auto expected = at::multinomial(logits.softmax(-1).view({-1, codes}), 1, true, theirs).view({3, 5});
    EXPECT_TRUE(all_close(draw_tokens(logits, ours), expected));
    EXPECT_TRUE(all_close(generator_state(ours), generator_state(theirs))) << "the next draw would differ";
  }
}

TEST(DrawTokens, FollowTheFilteredProbabilities) {
  constexpr int64_t kDraws = 200'000;
  const auto logits = at::tensor({0.5F, -1.F, 2.F, 1.5F, 0.F, -3.F, 1.F, 0.25F, -0.5F, 1.75F, -2.F, 0.75F});
  const auto filtered = filter_logits(logits.expand({1, kDraws, 12}), 9, 0.95);
  const auto probabilities = filtered[0][0].softmax(-1);
  ASSERT_EQ((probabilities > 0).sum().item<int64_t>(), 8);
  auto generator = make_generator(4);
  const auto counts = draw_tokens(filtered, generator).view({-1}).bincount({}, 12);
  EXPECT_GT(chi_square_p(counts, probabilities), 1e-4);
  EXPECT_LT(chi_square_p(counts, logits.softmax(-1)), 1e-4) << "the test cannot tell other probabilities";
}

TEST(DrawMixture, PeaksWhereSharpenedProbabilitiesSay) {
  constexpr int64_t kDraws = 100'000;
  const double ratio = 0.5;
  const auto logits = at::tensor({0.5F, -1.F, 1.F, 0.F, -INFINITY, 0.75F});
  auto generator = make_generator(5);
  const auto weights = draw_mixture(logits.expand({1, kDraws, 6}).contiguous(), ratio, generator);
  EXPECT_TRUE(all_close(weights.sum(-1), at::ones({1, kDraws}), {.absolute = 1e-5}));
  const auto counts = weights.argmax(-1).view({-1}).bincount({}, 6);
  EXPECT_GT(chi_square_p(counts, (logits * (1 + ratio)).softmax(-1)), 1e-4);
}

TEST(DrawMixture, IsSharperAtFinerScales) {
  const auto logits = at::randn({1, 500, 40}, make_generator(6));
  auto coarse = make_generator(7);
  auto fine = make_generator(7);
  const auto largest = [](const at::Tensor& weights) { return weights.amax(-1).mean().item<double>(); };
  EXPECT_GT(largest(draw_mixture(logits, 1, fine)), largest(draw_mixture(logits, 0, coarse)));
}

TEST(RandomLabels, AreUniform) {
  auto generator = make_generator(8);
  const auto labels = draw_random_labels(100'000, 10, generator);
  EXPECT_GT(chi_square_p(labels.bincount({}, 10), at::full({10}, 0.1)), 1e-4);
}

TEST(RandomLabels, WithoutClassesDrawNothing) {
  auto generator = make_generator(9);
  const auto before = generator_state(generator);
  EXPECT_TRUE(all_close(draw_random_labels(3, 0, generator), at::tensor({-1, -1, -1})));
  EXPECT_TRUE(all_close(generator_state(generator), before));
}

TEST(Guidance, RampsFromNothingToItsFullStrength) {
  EXPECT_EQ(guidance_strength(1.5, 0, 7), 0);
  EXPECT_EQ(guidance_strength(1.5, 3, 7), 0.75);
  EXPECT_EQ(guidance_strength(1.5, 6, 7), 1.5);
  EXPECT_EQ(guidance_strength(1.5, 0, 1), 0) << "a single scale has no ramp";
}

TEST(Guidance, MovesAwayFromTheUnconditionalLogits) {
  const auto logits = at::tensor({1.F, 2.F, 5.F, -1.F}).view({2, 1, 2});
  EXPECT_TRUE(all_close(guide(logits, 0.5), at::tensor({-1.F, 3.5F}).view({1, 1, 2})));
  EXPECT_TRUE(all_close(guide(logits, 0), logits.narrow(0, 0, 1)));
}

}  // namespace
}  // namespace nextscale::testing
