#include "nextscale/train/adversary.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/train/augmentation.h"
#include "nextscale/train/running_means.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

AdversarySetting setting(int64_t steps, int64_t side = 32) {
  return {.channels = 1,
          .side = side,
          .batch = 4,
          .steps = steps,
          .seed = 3,
          .device = at::kCPU,
          .dtype = at::kFloat,
          .moments = {.beta1 = 0.5, .beta2 = 0.9},
          .clip = 10,
          .schedule = {},
          .weights = "nowhere"};
}

at::Tensor pictures(uint64_t seed, double level) {
  auto generator = make_generator(seed);
  return (at::randn({4, 1, 32, 32}, generator) * 0.1 + level).clamp(-1, 1);
}

TEST(AdversarialLosses, ByHand) {
  const auto real = at::tensor({2.0F, 0.5F}), fake = at::tensor({-3.0F, 0.5F});
  EXPECT_FLOAT_EQ(hinge_loss(real, fake).item<float>(), 0.25F + 0.75F);
  EXPECT_FLOAT_EQ(generator_loss(fake).item<float>(), 1.25F);
  EXPECT_FLOAT_EQ(accuracy(real, fake).real.item<float>(), 1.0F);
  EXPECT_FLOAT_EQ(accuracy(real, fake).fake.item<float>(), 0.5F);
}

TEST(AdversarialLosses, TheWeightIsTheRatioOfGradientsWithinItsLimits) {
  const auto reconstruction = at::tensor({3.0F, 4.0F});  // norm 5
  const AdaptiveWeight options{.eps = 0, .low = 0.5, .high = 100};
  const auto weight = [&](const at::Tensor& adversarial) {
    return limited(gradient_ratio(reconstruction, adversarial, options.eps), options).item<float>();
  };
  EXPECT_FLOAT_EQ(weight(at::tensor({2.0F, 0.0F})), 2.5F);
  EXPECT_FLOAT_EQ(weight(at::tensor({1000.0F, 0.0F})), 0.5F);
  EXPECT_FLOAT_EQ(weight(at::tensor({1e-6F, 0.0F})), 100.0F);
  EXPECT_FLOAT_EQ(weight(at::tensor({static_cast<float>(kNan), 0.0F})), 0.0F);
  EXPECT_FLOAT_EQ(gradient_ratio(reconstruction, at::zeros({2}), 0.1).item<float>(), 50.0F);
}

TEST(AdversarialLosses, LecamForgetsNothingForABrokenBatch) {
  Lecam lecam(0.9, at::kCPU);
  lecam(at::full({4}, 2.0), at::full({4}, -1.0));
  EXPECT_NEAR(find_tensor(lecam.state(), "real").item<double>(), 0.2, 1e-6);
  lecam(at::full({4}, kNan), at::full({4}, -1.0));
  EXPECT_NEAR(find_tensor(lecam.state(), "real").item<double>(), 0.2, 1e-6);
  EXPECT_NEAR(find_tensor(lecam.state(), "fake").item<double>(), -0.19, 1e-6);
}

TEST(RunningMeans, LeaveOutWhatIsNotFiniteAndSayWhenNothingIsLeft) {
  RunningMeans means;
  means.add("some", at::tensor(1.0));
  means.add("some", at::tensor(kNan));
  means.add("some", at::tensor(4.0));
  means.add("none", at::tensor(kNan));
  auto taken = means.take();
  EXPECT_EQ(taken.at("some"), 2.5);
  EXPECT_TRUE(std::isnan(taken.at("none")));
  EXPECT_THAT(means.take(), IsEmpty());
}

TEST(Augmentation, MovesWholePicturesAndGradientsBackWithThem) {
  auto x = at::zeros({1, 1, 16, 16});
  x[0][0][8][8] = 1;
  x.requires_grad_();
  auto draws = at::full({kAugmentationDraws, 1}, 0.5);
  draws[0][0] = 0.99;  // as far as it goes: an eighth of 16
  const auto y = augmented(x, draws, {.colour = false, .cutout = false});
  EXPECT_EQ(y.nonzero().sizes(), at::IntArrayRef({1, 4}));
  EXPECT_EQ(y[0][0][6][8].item<float>(), 1);
  y[0][0][6][8].backward();
  EXPECT_EQ(x.grad()[0][0][8][8].item<float>(), 1);
  EXPECT_EQ(x.grad().sum().item<float>(), 1);
}

TEST(Augmentation, MiddleDrawsLeaveColoursAsTheyAre) {
  auto generator = make_generator(1);
  const auto x = at::rand({4, 3, 16, 16}, generator, at::kDouble);
  const auto y = augmented(x, at::full({kAugmentationDraws, 4}, 0.5), {.translation = false, .cutout = false});
  EXPECT_TRUE(all_close(y, x, {.relative = 0, .absolute = 1e-12}));
}

TEST(Augmentation, ACutoutIsAFifthOfEachSide) {
  const auto y = augmented(at::ones({2, 3, 20, 20}), at::full({kAugmentationDraws, 2}, 0.5),
                           {.translation = false, .colour = false});
  EXPECT_EQ(y.eq(0).sum().item<int64_t>(), 2 * 3 * 4 * 4);
}

TEST(Augmentation, ABlurKeepsTheMeanAndFades) {
  const auto x = pictures(2, 0).to(at::kDouble);
  const auto strong = blurred(x, 1), weak = blurred(x, 0.3);
  EXPECT_LT(strong.var().item<double>(), 0.1 * x.var().item<double>());
  EXPECT_LT(strong.var().item<double>(), weak.var().item<double>());
  EXPECT_TRUE(all_close(blurred(x, 0), x));
  EXPECT_NEAR(blurred(at::full({1, 1, 32, 32}, 0.7), 1).std().item<double>(), 0, 1e-6);
}

TEST(Adversary, LearnsToTellTwoKindsOfPicturesApart) {
  auto options = testing::tiny_adversary();
  options.blur_fade = 0;
  options.augment = 0;
  options.discriminator_lr = 2e-3;
  constexpr int64_t kSteps = 40;
  Adversary adversary(options, setting(kSteps));
  EXPECT_FALSE(adversary.active(9));
  EXPECT_TRUE(adversary.active(10));
  for (int64_t step = 10; step < kSteps; ++step) {
    adversary.learn(pictures(static_cast<uint64_t>(step), 0.5), pictures(static_cast<uint64_t>(100 + step), -0.5),
                    step);
    if (step == 20) adversary.numbers();
  }
  const auto numbers = adversary.numbers();
  EXPECT_GT(numbers.at("d_accuracy_real"), 0.9);
  EXPECT_GT(numbers.at("d_accuracy_fake"), 0.9);
  EXPECT_GT(numbers.at("d_real"), numbers.at("d_fake"));
  // To look more real means to go up.
  const auto push = adversary.push(pictures(7, -0.5), kSteps - 1);
  EXPECT_EQ(push.gradient.sizes(), at::IntArrayRef({4, 1, 32, 32}));
  EXPECT_LT(push.gradient.mean().item<double>(), 0);
}

TEST(Adversary, ItsWeightRisesOverTheRamp) {
  auto options = testing::tiny_adversary();
  options.adaptive = false;
  Adversary adversary(options, setting(100));  // begins at 25, ramp of 20
  const auto weight = [&](int64_t step) { return adversary.weight({}, {}, step).item<double>(); };
  EXPECT_GT(weight(25), 0);
  EXPECT_LT(weight(25), 0.1 * options.adversarial);
  EXPECT_NEAR(weight(35), 0.5 * options.adversarial, 0.05 * options.adversarial);
  EXPECT_NEAR(weight(45), options.adversarial, 1e-6);
  EXPECT_NEAR(weight(99), options.adversarial, 1e-6);
}

TEST(Adversary, ABrokenStepChangesNothingAndIsSaidOnce) {
  Adversary adversary(testing::tiny_adversary(), setting(10));
  adversary.learn(pictures(1, 0.5), pictures(2, -0.5), 5);
  const auto weights = find_tensor(adversary.state(), "main.0.weight").clone();
  const auto moments = find_tensor(adversary.optimizer_state(), "main.0.weight.exp_avg").clone();
  adversary.numbers();
  adversary.learn(pictures(1, 0.5), pictures(2, kNan), 6);
  EXPECT_TRUE(all_close(find_tensor(adversary.state(), "main.0.weight"), weights));
  EXPECT_TRUE(all_close(find_tensor(adversary.optimizer_state(), "main.0.weight.exp_avg"), moments));
  EXPECT_EQ(find_tensor(adversary.optimizer_state(), "main.0.weight.step").item<double>(), 1);
  auto numbers = adversary.numbers();
  EXPECT_EQ(numbers.at("d_skipped_steps"), 1);
  EXPECT_TRUE(std::isnan(numbers.at("d")));
  EXPECT_THAT(adversary.notes(numbers), Contains(HasSubstr("not finite")));
  EXPECT_THAT(adversary.notes(numbers), IsEmpty());
}

TEST(Adversary, OneThatWinsForLongIsSaidOnce) {
  Adversary adversary(testing::tiny_adversary(), setting(10));
  const std::map<std::string, double> winning = {{"d_accuracy_real", 0.99}, {"d_accuracy_fake", 0.99}};
  int64_t said = 0;
  for (int64_t i = 0; i < 60; ++i) said += static_cast<int64_t>(adversary.notes(winning).size());
  EXPECT_EQ(said, 1);
  adversary.notes({});
  for (int64_t i = 0; i < 60; ++i) EXPECT_THAT(adversary.notes(winning), IsEmpty()) << "said before";
  Adversary wavering(testing::tiny_adversary(), setting(10));
  for (int64_t i = 0; i < 60; ++i) {
    EXPECT_THAT(wavering.notes({{"d_accuracy_real", i % 10 == 9 ? 0.5 : 0.99}, {"d_accuracy_fake", 0.99}}), IsEmpty());
  }
}

TEST(Adversary, WhatCannotBeJudgedIsRefused) {
  const auto refused = [](const char* discriminator, int64_t side) {
    auto options = testing::tiny_adversary();
    options.discriminator = discriminator;
    options.discriminator_layers = 3;
    return testing::message_of([&] { Adversary(options, setting(10, side)); });
  };
  EXPECT_THAT(refused("patchgan", 16), HasSubstr("24"));
  EXPECT_THAT(refused("dino", 32), HasSubstr("scripts/download-weights.sh"));
}

}  // namespace
}  // namespace nextscale
