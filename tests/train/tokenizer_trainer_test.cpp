#include "nextscale/train/tokenizer_trainer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/vqvae/codebook.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::one_worker;
using testing::squares;
using testing::TemporaryDirectory;
using testing::tiny_tokenizer_recipe;

TokenizerTrainer trainer(const TokenizerRecipe& recipe, int64_t steps) {
  return TokenizerTrainer(recipe, squares(), one_worker(), steps, /*seed=*/3, at::kCPU, at::kFloat);
}

at::Tensor codebook(const TokenizerTrainer& trainer) {
  return trainer.tokenizer()->quantizer()->codebook().detach().clone();
}

TEST(TokenizerTrainer, LearnsToDecodePicturesAndUsesItsCodes) {
  constexpr int64_t kSteps = 120;
  auto learning = trainer(tiny_tokenizer_recipe(), kSteps);
  double first = 0, last = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const auto report = learning.step(step, step == 9 || step + 1 == kSteps || step + 11 == kSteps);
    if (step == 9) first = report.more.at("l2");
    if (step + 1 == kSteps) last = report.more.at("l2");
  }
  EXPECT_LT(last, first / 3);
  const auto numbers = learning.validate(kSteps);
  EXPECT_GT(numbers.at("psnr"), 13.0);
  EXPECT_GE(numbers.at("used_codes"), 14);
  EXPECT_GT(numbers.at("perplexity"), 6.0);
  EXPECT_GT(numbers.at("psnr_4x4"), numbers.at("psnr_1x1"));
  EXPECT_NEAR(numbers.at("psnr_4x4"), numbers.at("psnr"), 1e-6);  // all of them were decoded after every scale
  EXPECT_LE(numbers.at("usage_2x2"), 1.0);
  ASSERT_TRUE(learning.preview().defined());
  EXPECT_EQ(learning.preview().size(2), 3);
}

TEST(TokenizerTrainer, BeginsWithoutCodesAndMakesThemByKMeans) {
  auto recipe = tiny_tokenizer_recipe();
  recipe.training.continuous = 0.5;
  auto learning = trainer(recipe, 8);
  const auto before = codebook(learning);
  const auto hits = find_tensor(state_dict(*learning.tokenizer()->quantizer()), "ema_vocab_hit_SV");
  for (int64_t step = 0; step < 4; ++step) learning.step(step, false);
  EXPECT_EQ(hits.sum().item<double>(), 0.0);
  EXPECT_EQ(learning.validate(4).count("perplexity"), 0U);
  EXPECT_TRUE(all_close(codebook(learning), before));
  learning.step(4, false);
  EXPECT_GT(hits.sum().item<double>(), 0.0);
  // Centres of features are far larger than the codebook's small uniform values.
  EXPECT_GT(codebook(learning).abs().mean().item<double>(), 3 * before.abs().mean().item<double>());
  EXPECT_EQ(learning.validate(5).count("perplexity"), 1U);
}

TEST(TokenizerTrainer, CodesFollowARunningMeanWithoutGradients) {
  auto recipe = tiny_tokenizer_recipe();
  recipe.training.continuous = 0;
  recipe.training.codebook_start = "kmeans";
  recipe.schedule.lr = 0;
  auto moving = trainer(recipe, 100);
  moving.step(0, false);
  const auto weight = moving.tokenizer()->parameters().front().detach().clone();
  const auto before = codebook(moving);
  moving.step(1, false);
  EXPECT_TRUE(all_close(moving.tokenizer()->parameters().front(), weight));
  EXPECT_FALSE(all_close(codebook(moving), before));

  recipe.training.codebook_decay = 0;
  recipe.training.restart_every = 0;
  auto still = trainer(recipe, 100);
  still.step(0, false);
  const auto kept = codebook(still);
  still.step(1, false);
  EXPECT_TRUE(all_close(codebook(still), kept));
}

TEST(TokenizerTrainer, ARestartedCodeForgetsItsMoments) {
  auto recipe = tiny_tokenizer_recipe();
  recipe.training.continuous = 0;
  recipe.training.codebook_decay = 0;
  recipe.training.restart_every = 1;
  recipe.training.restart_share = 1.0;  // every code below the mean use starts anew
  const TemporaryDirectory folder;
  auto learning = trainer(recipe, 10);
  const auto before = codebook(learning);
  learning.step(0, false);
  const CheckpointWriter checkpoint(folder / "checkpoints", 1);
  learning.save(checkpoint);
  const auto state = read_weights(checkpoint.file("optimizer.safetensors")).tensors;
  const auto moments = find_tensor(state, "quantize.embedding.weight.exp_avg_sq").sum(1);
  const auto moved = (codebook(learning) - before).abs().amax(1).gt(0.05);
  ASSERT_GT(moved.sum().item<int64_t>(), 0);
  EXPECT_TRUE(moments.masked_select(moved).eq(0).all().item<bool>());
  const auto ema = read_weights(checkpoint.file("ema.safetensors")).tensors;
  EXPECT_TRUE(
      all_close(find_tensor(ema, "quantize.embedding.weight").index({moved}), codebook(learning).index({moved})));
}

TEST(TokenizerTrainer, ReportsAreMeansSinceTheLastOne) {
  auto recipe = tiny_tokenizer_recipe();
  auto each = trainer(recipe, 50);
  auto seldom = trainer(recipe, 50);
  double sum = 0;
  for (int64_t step = 0; step < 3; ++step) sum += each.step(step, true).loss;
  seldom.step(0, false);
  seldom.step(1, false);
  EXPECT_NEAR(seldom.step(2, true).loss, sum / 3, 1e-6);
}

TEST(TokenizerTrainer, DropoutOfScalesStillTrainsAllOfThem) {
  auto recipe = tiny_tokenizer_recipe();
  recipe.training.continuous = 0;
  recipe.training.quantizer_dropout = 0.5;
  recipe.training.quantizer_dropout_from = 1;
  auto dropping = trainer(recipe, 20);
  for (int64_t step = 0; step < 12; ++step) EXPECT_TRUE(std::isfinite(dropping.step(step, true).loss));
  recipe.training.quantizer_dropout = 0;
  auto whole = trainer(recipe, 20);
  for (int64_t step = 0; step < 12; ++step) whole.step(step, false);
  EXPECT_FALSE(all_close(dropping.tokenizer()->parameters().front(), whole.tokenizer()->parameters().front()));
}

TEST(TokenizerTrainer, SidesThatDoNotFitThePicturesAreRefusedWithTheRelation) {
  auto recipe = tiny_tokenizer_recipe();
  recipe.model.quantizer.sides = {1, 2, 3};
  try {
    trainer(recipe, 10);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_THAT(error.what(), HasSubstr("last side 4 = picture side 16 / 4 pixels a cell"));
  }
}

TEST(TokenizerTrainer, ThePaperPresetIsTheAuthorsTraining) {
  const auto recipe = tokenizer_recipe("paper", 256, 3);
  EXPECT_EQ(recipe.schedule.lr, 3e-4);
  EXPECT_EQ(recipe.training.beta1, 0.5);
  EXPECT_EQ(recipe.training.codebook_decay, 0);
  EXPECT_EQ(recipe.loop.batch, 768);
  EXPECT_EQ(recipe.model.dropout, 0.05);
  EXPECT_EQ(recipe.training.perceptual, 1);
  EXPECT_EQ(recipe.adversary.discriminator, "dino");
  EXPECT_EQ(recipe.adversary.adversarial, 0.4);
  EXPECT_EQ(recipe.adversary.adaptive_low, 0.015);
  EXPECT_EQ(recipe.adversary.consistency, 8);
  EXPECT_THROW(tokenizer_recipe("paper", 28, 1), Error);
}

TEST(CollapsedScales, AreThoseWithNextToOneCode) {
  const Scales scales(std::vector<int64_t>{1, 2});
  CodeUsage usage(scales, 300);
  auto tokens = at::arange(100 * 5).remainder(300).reshape({100, 5});
  tokens.select(1, 0).fill_(7);  // the same code at 1x1 in every picture
  usage.add(tokens);
  EXPECT_THAT(collapsed_scales(usage, scales, 100), ElementsAre(0));
}

}  // namespace
}  // namespace nextscale
