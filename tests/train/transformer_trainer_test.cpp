#include "nextscale/train/transformer_trainer.h"

#include <cmath>
#include <set>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy_tokens.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::kToyClasses;
using testing::TemporaryDirectory;
using testing::tiny_transformer_recipe;
using testing::toy_cache;
using testing::toy_trainer;

at::Tensor parameter(const TransformerTrainer& trainer, const std::string& name) {
  return find_tensor(named_parameters(*trainer.transformer()), name).detach().clone();
}

TEST(TransformerTrainer, LearnsTokensThatFollowFromTheClass) {
  constexpr int64_t kSteps = 120;
  auto trainer = toy_trainer(tiny_transformer_recipe(), toy_cache(), kSteps);
  EXPECT_NEAR(trainer.validate(0).at("loss"), std::log(16.0), 0.1);
  for (int64_t step = 0; step < kSteps; ++step) trainer.step(step, false);
  const auto numbers = trainer.validate(kSteps);
  EXPECT_LT(numbers.at("loss"), 1.4);
  EXPECT_GT(numbers.at("accuracy"), 0.7);
  EXPECT_NEAR(numbers.at("gap"), numbers.at("loss") - numbers.at("train_loss"), 1e-12);
  // Every token counts the same: 1, 4 and 9 of them.
  EXPECT_NEAR(numbers.at("loss") * 14, numbers.at("loss_1x1") + 4 * numbers.at("loss_2x2") + 9 * numbers.at("loss_3x3"),
              1e-6);
  EXPECT_EQ(numbers.count("reducible"), 0U);
}

TEST(TransformerTrainer, ValidationIsTheLossOfHeldOutTokensWithLabelsKept) {
  auto recipe = tiny_transformer_recipe();
  recipe.training.ema = 0;
  recipe.training.label_drop = 0.9;
  recipe.training.label_smoothing = 0.3;
  recipe.training.token_entropy = 1.0;
  auto trainer = toy_trainer(recipe, toy_cache(), 20);
  for (int64_t step = 0; step < 20; ++step) trainer.step(step, false);
  const auto cache = toy_cache();
  const at::NoGradGuard no_grad;
  auto transformer = trainer.transformer();
  transformer->eval();
  const auto tokens = cache.val_tokens.to(at::kLong);
  const auto logits = transformer->forward(cache.val_labels, quantizer_of(cache)->teacher_forcing_input(tokens));
  const double expected = at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten()).item<double>();
  const auto numbers = trainer.validate(20);
  EXPECT_NEAR(numbers.at("loss"), expected, 1e-5);
  EXPECT_NEAR(numbers.at("reducible"), expected - 1.0, 1e-5);
}

TEST(TransformerTrainer, NoTokenIsPredictedFromItselfOrFromFinerScales) {
  auto trainer = toy_trainer(tiny_transformer_recipe(), toy_cache(), 20);
  for (int64_t step = 0; step < 10; ++step) trainer.step(step, false);
  const at::NoGradGuard no_grad;
  auto transformer = trainer.transformer();
  transformer->eval();
  const auto cache = toy_cache();
  const auto quantizer = quantizer_of(cache);
  const auto logits = [&](const at::Tensor& tokens) {
    return transformer->forward(cache.val_labels, quantizer->teacher_forcing_input(tokens));
  };
  const auto tokens = cache.val_tokens.to(at::kLong);
  const auto before = logits(tokens);
  const auto& scales = transformer->scales();
  for (int64_t k = 0; k < scales.count(); ++k) {
    auto changed = tokens.clone();
    changed.narrow(1, scales.begin(k), scales.length() - scales.begin(k)).add_(5).remainder_(16);
    const auto after = logits(changed);
    EXPECT_TRUE(all_close(after.narrow(1, 0, scales.end(k)), before.narrow(1, 0, scales.end(k)), {.absolute = 1e-5}));
    if (scales.is_last(k)) continue;
    const auto next = [&](const at::Tensor& all) { return all.narrow(1, scales.begin(k + 1), scales.area(k + 1)); };
    EXPECT_FALSE(all_close(next(after), next(before), {.absolute = 1e-3})) << "scale " << k << " is not seen";
  }
}

TEST(TransformerTrainer, AccumulatedPartsMakeTheSameStepAsTheWholeBatch) {
  auto recipe = tiny_transformer_recipe();
  auto whole = toy_trainer(recipe, toy_cache(), 30);
  recipe.training.accumulate = 4;
  auto parts = toy_trainer(recipe, toy_cache(), 30);
  for (int64_t step = 0; step < 3; ++step) {
    const auto a = whole.step(step, true), b = parts.step(step, true);
    EXPECT_NEAR(a.loss, b.loss, 1e-5);
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-4);
  }
  recipe.training.accumulate = 3;
  EXPECT_THROW(check_together(recipe.training, recipe.loop, Scales(std::vector<int64_t>{1, 2, 3})), Error);
}

TEST(TransformerTrainer, WarnsWhenItLearnsItsTrainingPicturesByHeart) {
  auto recipe = tiny_transformer_recipe();
  constexpr int64_t kSteps = 150;
  auto trainer = toy_trainer(recipe, toy_cache(/*pictures=*/8, /*views=*/1, /*noise=*/1.0), kSteps);
  trainer.validate(0);
  EXPECT_EQ(trainer.warning(), "");
  for (int64_t step = 0; step < kSteps; ++step) trainer.step(step, false);
  EXPECT_GT(trainer.validate(kSteps).at("gap"), 0.1);
  EXPECT_THAT(trainer.warning(), HasSubstr("by heart"));
}

TEST(TransformerTrainer, ProgressiveTrainingLeavesFineScalesAloneAtFirst) {
  auto recipe = tiny_transformer_recipe();
  recipe.training.progressive = 0.8;
  recipe.training.progressive_first = 1;
  auto trainer = toy_trainer(recipe, toy_cache(), 100);
  const auto before = parameter(trainer, "pos_1LC");  // (1, L, C)
  const auto report = trainer.step(0, true);
  EXPECT_EQ(report.more.at("newest_scale"), 1);
  EXPECT_EQ(report.more.count("loss_3x3"), 0U);
  const auto after = parameter(trainer, "pos_1LC");
  EXPECT_FALSE(all_close(after.narrow(1, 0, 5), before.narrow(1, 0, 5)));
  EXPECT_TRUE(all_close(after.narrow(1, 5, 9), before.narrow(1, 5, 9)));
  EXPECT_EQ(trainer.step(99, true).more.count("newest_scale"), 0U);
}

TEST(TransformerTrainer, FilesSayClassNamesAndTokenizer) {
  const TemporaryDirectory folder;
  auto trainer = toy_trainer(tiny_transformer_recipe(), toy_cache(), 10);
  trainer.save_snapshot(folder / "snapshot.safetensors");
  const auto metadata = read_weights(folder / "snapshot.safetensors").metadata;
  EXPECT_EQ(metadata.at("class_names"), R"(["a","b","c"])");
  EXPECT_EQ(metadata.at("tokenizer_hash"), "hash of the tokenizer");
  EXPECT_EQ(load_transformer(folder / "snapshot.safetensors")->options().classes, kToyClasses);
}

TEST(TransformerTrainer, PublishedRecipesAreThoseOfTheReadme) {
  const auto d16 = transformer_recipe("d16");
  EXPECT_EQ(d16.loop.batch, 768);
  EXPECT_EQ(d16.loop.epochs, 200);
  EXPECT_EQ(d16.lr_per_256, 1e-4);
  EXPECT_EQ(d16.schedule.lr_end, 0.1);
  EXPECT_EQ(d16.model.init_adaln_gamma, 1e-3);
  EXPECT_EQ(d16.training.clip, 2.0);
  const auto d30 = transformer_recipe("d30");
  EXPECT_EQ(d30.loop.batch, 1024);
  EXPECT_EQ(d30.schedule.weight_decay_end, 0.08);
  EXPECT_EQ(d30.schedule.lr_end, 0.01);
  const auto own = transformer_recipe(6);
  EXPECT_EQ(own.model.width, 384);
  EXPECT_EQ(own.model.heads, 6);
  EXPECT_NEAR(own.model.drop_path, 0.025, 1e-12);
}

TEST(TokensFromCache, AnEpochShowsEveryPictureOnceInOneOfItsViews) {
  constexpr int64_t kPictures = 20, kBatch = 4;
  auto cache = toy_cache(kPictures, /*views=*/3);
  // A row's first tokens tell which view of which picture it is.
  cache.train_tokens.select(1, 0).copy_(at::arange(3 * kPictures).floor_divide(kPictures));
  cache.train_tokens.select(1, 1).copy_(at::arange(3 * kPictures).remainder(kPictures).remainder(16));
  cache.train_tokens.select(1, 2).copy_(at::arange(3 * kPictures).remainder(kPictures).floor_divide(16));
  const auto source = tokens_from_cache(cache, kBatch, 9, at::kCPU);
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::vector<int64_t> seen(kPictures, 0);
    std::set<int64_t> views;
    for (int64_t step = epoch * 5; step < epoch * 5 + 5; ++step) {
      const auto batch = source->batch(step);
      for (int64_t i = 0; i < kBatch; ++i) {
        const int64_t picture = batch.tokens[i][1].item<int64_t>() + 16 * batch.tokens[i][2].item<int64_t>();
        ++seen[static_cast<size_t>(picture)];
        views.insert(batch.tokens[i][0].item<int64_t>());
        EXPECT_EQ(batch.labels[i].item<int64_t>(), picture % kToyClasses);
      }
    }
    EXPECT_THAT(seen, ::testing::Each(1));
    EXPECT_GT(views.size(), 1U);
  }
  EXPECT_FALSE(all_close(source->batch(0).tokens, source->batch(5).tokens));
}

TEST(TokensFromCache, ABatchDependsOnItsStepAlone) {
  const auto in_order = tokens_from_cache(toy_cache(), 8, 9, at::kCPU);
  const auto jumping = tokens_from_cache(toy_cache(), 8, 9, at::kCPU);
  std::vector<TokenBatch> batches;
  for (int64_t step = 0; step < 14; ++step) batches.push_back(in_order->batch(step));
  const auto cache = toy_cache();
  const auto quantizer = quantizer_of(cache);
  for (const int64_t step : {13, 2, 7, 6, 0, 13}) {
    const auto batch = jumping->batch(step);
    const auto& expected = batches[static_cast<size_t>(step)];
    EXPECT_TRUE(all_close(batch.tokens, expected.tokens));
    EXPECT_TRUE(all_close(batch.labels, expected.labels));
    EXPECT_TRUE(at::equal(batch.inputs, expected.inputs));
    EXPECT_TRUE(all_close(batch.inputs, quantizer->teacher_forcing_input(batch.tokens), {.absolute = 1e-5}));
  }
  EXPECT_THROW(tokens_from_cache(toy_cache(), 1000, 9, at::kCPU), Error);
}

}  // namespace
}  // namespace nextscale
