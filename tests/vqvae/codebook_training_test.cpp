#include "nextscale/vqvae/codebook_training.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/vqvae/codebook.h"

namespace nextscale {
namespace {

using testing::all_close;

ResidualQuantizer small_quantizer(uint64_t seed = 1) {
  ResidualQuantizer quantizer(
      QuantizerOptions{.codes = 12, .code_width = 4, .sides = {1, 2, 3}, .share_quant_resi = 1});
  auto generator = make_generator(seed);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : named_parameters(*quantizer)) parameter.normal_(0, 0.5, generator);
  quantizer->codebook().set_requires_grad(false);
  return quantizer;
}

at::Tensor features(uint64_t seed) { return at::randn({6, 4, 3, 3}, make_generator(seed)); }

// Four clouds of 50 around (+-1, +-1).
at::Tensor clouds() {
  const auto centres = at::tensor({1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0}, at::kFloat).view({4, 2});
  return centres.repeat_interleave(50, 0) + 0.05 * at::randn({200, 2}, make_generator(7));
}

TEST(CodebookStart, IsUniformWithinItsBound) {
  auto codebook = at::empty({4096, 16});
  auto generator = make_generator(1);
  start_codebook_uniform(codebook, generator);
  const double bound = 1.0 / (36 * 4);
  EXPECT_LE(codebook.abs().max().item<double>(), bound);
  EXPECT_NEAR(codebook.std().item<double>(), bound / std::sqrt(3.0), 0.01 * bound);
  EXPECT_NEAR(codebook.mean().item<double>(), 0, 0.01 * bound);
}

TEST(Kmeans, FindsCloudsAndLeavesNoCentreWithoutVectors) {
  auto generator = make_generator(3);
  const auto vectors = clouds();
  const auto centres = kmeans(vectors, 8, 10, false, generator);
  const auto counts = at::bincount(nearest_codes(vectors, centres, false), {}, 8);
  // Every vector sits near a centre: no cloud was left out.
  EXPECT_LT(at::cdist(vectors, centres).amin(1).max().item<double>(), 0.5);
  EXPECT_EQ(counts.sum().item<int64_t>(), 200);
}

TEST(Kmeans, FewerVectorsThanCodesStillGiveAFullCodebook) {
  auto generator = make_generator(3);
  const auto centres = kmeans(at::randn({5, 2}, make_generator(1)), 12, 10, false, generator);
  EXPECT_EQ(centres.sizes(), at::IntArrayRef({12, 2}));
  EXPECT_TRUE(centres.isfinite().all().item<bool>());
}

TEST(CodebookTraining, StartsFromTheNewestBatchesOnlyWithTheSameCapForEveryScale) {
  auto quantizer = small_quantizer();
  CodebookTraining training(quantizer, {.batches_kept = 2, .vectors_per_scale = 10});
  auto generator = make_generator(1);
  // An old batch far away that must have been pushed out.
  training.collect({at::full({6, 4}, 100.0), at::full({24, 4}, 100.0), at::full({54, 4}, 100.0)}, generator);
  for (uint64_t batch = 0; batch < 2; ++batch) {
    training.collect(quantizer->forward_continuous(features(batch)).residuals, generator);
  }
  const auto counts = find_tensor(training.state(), "collected_counts");
  EXPECT_TRUE(all_close(counts, at::tensor({6, 6, 10, 10, 10, 10}, at::kLong).view({3, 2})));
  training.start_from_collected(generator);
  EXPECT_LT(quantizer->codebook().abs().max().item<double>(), 10);
  EXPECT_NEAR(find_tensor(training.state(), "counts").sum().item<double>(), 26, 1e-3);  // one batch's worth
}

TEST(CodebookTraining, WithoutCollectedResidualsItSaysSo) {
  CodebookTraining training(small_quantizer(), {});
  auto generator = make_generator(1);
  EXPECT_THROW(training.start_from_collected(generator), Error);
}

TEST(CodebookTraining, CodesMoveToTheMeanOfWhatTheyStandFor) {
  auto quantizer = small_quantizer();
  CodebookTraining training(quantizer, {.decay = 0.5});
  const auto before = quantizer->codebook().detach().clone();
  const auto output = quantizer(features(1));
  training.update(output);
  // The first batch decides alone: running counts and sums start at zero.
  const auto vectors = at::cat(output.residuals);
  std::vector<at::Tensor> ids;
  for (int64_t k = 0; k < 3; ++k) {
    ids.push_back(output.tokens.narrow(1, quantizer->scales().begin(k), quantizer->scales().area(k)).reshape(-1));
  }
  const auto all_ids = at::cat(ids);
  for (int64_t code = 0; code < 12; ++code) {
    SCOPED_TRACE(code);
    const auto own = at::nonzero(all_ids.eq(code)).reshape(-1);
    const auto expected = own.numel() > 0 ? vectors.index_select(0, own).mean(0) : before[code];
    EXPECT_TRUE(all_close(quantizer->codebook()[code], expected, {.absolute = 1e-5}));
  }
}

TEST(CodebookTraining, FollowsTheRunningMeanWithItsDecay) {
  auto quantizer = small_quantizer();
  CodebookTraining training(quantizer, {.decay = 0.9});
  training.update(quantizer(features(1)));
  const auto counts = find_tensor(training.state(), "counts").clone();
  const auto output = quantizer(features(2));
  training.update(output, /*move=*/false);
  const auto hits = at::bincount(output.tokens.reshape(-1), {}, 12).to(at::kFloat);
  EXPECT_TRUE(all_close(find_tensor(training.state(), "counts"), counts * 0.9 + hits * 0.1, {.absolute = 1e-5}));
}

TEST(CodebookTraining, OnlyCodesBelowTheShareMoveOntoResidualsOfTheBatch) {
  auto quantizer = small_quantizer();
  CodebookTraining training(quantizer, {.restart_below = 0.03});
  const at::NoGradGuard no_grad;
  quantizer->codebook()[4].fill_(50);  // so far off that nothing falls to them
  quantizer->codebook()[9].fill_(-50);
  const auto output = quantizer(features(1));
  training.update(output);
  const auto before = quantizer->codebook().clone();
  const auto counts = find_tensor(training.state(), "counts").clone();
  auto generator = make_generator(2);
  const auto moved = training.restart(output.residuals, generator);
  const auto dead = at::nonzero(counts.lt(0.03 * counts.mean())).reshape(-1);
  EXPECT_TRUE(all_close(moved, dead));
  ASSERT_GE(moved.numel(), 2);
  const auto rows = quantizer->codebook().index_select(0, moved);
  EXPECT_LT(at::cdist(rows, at::cat(output.residuals)).amin(1).max().item<double>(), 1e-3);
  const auto alive = at::nonzero(counts.ge(0.03 * counts.mean())).reshape(-1);
  EXPECT_TRUE(all_close(quantizer->codebook().index_select(0, alive), before.index_select(0, alive)));
  EXPECT_EQ(training.restart(output.residuals, generator).numel(), 0);  // nobody is below the limit any more
}

TEST(CodebookTraining, GoesOnExactlyFromItsState) {
  const auto run = [](bool interrupted, bool restored) {
    auto quantizer = small_quantizer();
    auto training = std::make_unique<CodebookTraining>(quantizer, CodebookTrainingOptions{.batches_kept = 3});
    auto generator = make_generator(5);
    for (uint64_t step = 0; step < 8; ++step) {
      if (interrupted && step == 4) {
        auto next = std::make_unique<CodebookTraining>(quantizer, CodebookTrainingOptions{.batches_kept = 3});
        if (restored) {
          for (const auto& [name, tensor] : next->state()) tensor.copy_(find_tensor(training->state(), name));
        }
        training = std::move(next);
      }
      const at::NoGradGuard no_grad;
      training->collect(quantizer->forward_continuous(features(step)).residuals, generator);
      if (step == 5) training->start_from_collected(generator);
      const auto output = quantizer(features(step));
      training->update(output);
      training->restart(output.residuals, generator);
    }
    return quantizer->codebook().clone();
  };
  const auto straight = run(false, false);
  EXPECT_TRUE(all_close(run(true, true), straight));
  EXPECT_FALSE(all_close(run(true, false), straight)) << "a lost state must show";
}

}  // namespace
}  // namespace nextscale
