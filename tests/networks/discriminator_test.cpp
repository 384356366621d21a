#include "nextscale/networks/discriminator.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/networks/dino_discriminator.h"
#include "nextscale/networks/patch_discriminator.h"
#include "nextscale/tests/networks/discriminator_support.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::AllOf;
using testing::copied;
using testing::entry;
using ::testing::HasSubstr;
using testing::made_up;
using testing::message_of;
using testing::same;
using testing::small_dino;
using testing::small_trunk;

TEST(HeadNorm, VirtualBatchesKnowNothingOfEachOther) {
  const at::NoGradGuard no_grad;
  HeadNorm norm(4, HeadNormKind::virtual_batch);
  auto x = made_up("x", {12, 4, 9});
  const auto before = norm(x);
  for (int64_t part = 0; part < 2; ++part) {  // 12 samples are two parts of 6
    const auto of_part = x.slice(0, 6 * part, 6 * part + 6);
    const std::vector<int64_t> over{0, 2};
    const auto expected = (of_part - of_part.mean(over, /*keepdim=*/true)) /
                          (of_part.var(over, /*unbiased=*/false, /*keepdim=*/true) + 1e-6).sqrt();
    EXPECT_TRUE(all_close(before.slice(0, 6 * part, 6 * part + 6), expected, {.absolute = 1e-5}));
  }
  x[2] *= 3;
  const auto after = norm(x);
  EXPECT_TRUE(after.slice(0, 6).equal(before.slice(0, 6)));
  for (int64_t i = 0; i < 6; ++i) EXPECT_FALSE(after[i].equal(before[i])) << i;
  norm->eval();
  EXPECT_TRUE(norm(x).equal(after)) << "statistics of the batch, always";
}

TEST(HeadNorm, BatchHasRunningStatisticsInEvaluation) {
  const at::NoGradGuard no_grad;
  HeadNorm norm(4, HeadNormKind::batch);
  const auto x = made_up("x", {6, 4, 9}) * 2 + 1;
  norm->eval();
  EXPECT_TRUE(all_close(norm(x), x, {.relative = 1e-5, .absolute = 1e-5})) << "of none yet";
  norm->train();
  for (int i = 0; i < 200; ++i) norm(x);
  norm->eval();
  EXPECT_TRUE(all_close(entry(*norm, "running_mean"), x.mean(at::IntArrayRef({0, 2})), {.absolute = 1e-5}));
  EXPECT_EQ(entry(*norm, "num_batches_tracked").item<int64_t>(), 200);
  EXPECT_TRUE(all_close(norm(x[0].unsqueeze(0)), norm(x)[0].unsqueeze(0), {.absolute = 1e-6}));
}

TEST(VirtualBatches, AreAsFewAsPossibleAndEqual) {
  const std::vector<std::pair<int64_t, int64_t>> expected{{1, 1}, {7, 1}, {8, 1}, {10, 2}, {12, 2}, {16, 2}, {18, 3}};
  for (const auto& [batch, parts] : expected) EXPECT_EQ(virtual_batches(batch), parts) << batch;
  EXPECT_THAT(message_of([] { virtual_batches(9); }),
              AllOf(HasSubstr("virtual batch norm"), HasSubstr("expected 8 or 10, got 9")));
  EXPECT_THAT(message_of([] { virtual_batches(17); }), HasSubstr("expected 16 or 18, got 17"));
}

TEST(PatchDiscriminator, SmallestSideGivesOneLogit) {
  for (const auto& [layers, side] : std::vector<std::pair<int64_t, int64_t>>{{1, 6}, {2, 12}, {3, 24}, {5, 96}}) {
    PatchDiscriminator network(PatchDiscriminatorOptions{.width = 4, .layers = layers});
    network->initialise(make_generator(1));
    ASSERT_EQ(network->smallest_side(), side);
    EXPECT_EQ(network->forward(made_up("x", {2, 3, side, side})).sizes(), at::IntArrayRef({2, 1, 1, 1}));
    EXPECT_THAT(message_of([&] { network->forward(made_up("x", {2, 3, side, side - 1})); }),
                AllOf(HasSubstr("too small for one logit"), HasSubstr("at least " + std::to_string(side)),
                      HasSubstr("got " + std::to_string(side) + " x " + std::to_string(side - 1))));
  }
}

TEST(PatchDiscriminator, WidthsStopAtEightTimesTheFirst) {
  PatchDiscriminator network(PatchDiscriminatorOptions{.channels = 1, .width = 4, .layers = 5});
  EXPECT_EQ(entry(*network, "main.0.weight").sizes(), at::IntArrayRef({4, 1, 4, 4}));
  EXPECT_EQ(entry(*network, "main.8.weight").sizes(), at::IntArrayRef({32, 16, 4, 4}));
  EXPECT_EQ(entry(*network, "main.14.weight").sizes(), at::IntArrayRef({32, 32, 4, 4}));
  EXPECT_EQ(entry(*network, "main.17.weight").sizes(), at::IntArrayRef({1, 32, 4, 4}));
}

TEST(PatchDiscriminator, EveryLogitSeesOnePatch) {
  PatchDiscriminator network(PatchDiscriminatorOptions{.width = 4});
  network->initialise(make_generator(1));
  network->eval();
  auto pictures = made_up("x", {1, 3, 128, 128}).requires_grad_();
  network->forward(pictures)[0][0][7][7].backward();
  const auto seen = pictures.grad().abs().sum(1)[0] > 0;  // (128, 128)
  const auto rows = seen.any(1).nonzero(), columns = seen.any(0).nonzero();
  EXPECT_EQ((rows.max() - rows.min() + 1).item<int64_t>(), 70);
  EXPECT_EQ((columns.max() - columns.min() + 1).item<int64_t>(), 70);
}

TEST(PatchDiscriminator, TakesGreyPicturesIfToldSo) {
  PatchDiscriminator network(PatchDiscriminatorOptions{.channels = 1, .width = 4, .layers = 2});
  network->initialise(make_generator(1));
  EXPECT_EQ(network->forward(made_up("grey", {2, 1, 16, 20})).sizes(), at::IntArrayRef({2, 1, 2, 3}));
  EXPECT_THAT(message_of([&] { network->forward(made_up("x", {2, 3, 16, 20})); }),
              HasSubstr("expected (B, 1, h, w), got (2, 3, 16, 20)"));
}

TEST(PatchDiscriminator, EvaluationLeavesTheStatistics) {
  const at::NoGradGuard no_grad;
  PatchDiscriminator network(PatchDiscriminatorOptions{.width = 4});
  network->initialise(make_generator(1));
  const auto pictures = made_up("x", {2, 3, 32, 32});
  network->eval();
  const auto before = copied(*network);
  network->forward(pictures);
  EXPECT_TRUE(same(*network, before));
  network->train();
  network->forward(pictures);
  EXPECT_FALSE(same(*network, before));
  const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
  EXPECT_TRUE(network->forward(pictures).isfinite().all().item<bool>());
}

TEST(Discriminator, FirstWeightsComeFromTheGeneratorAlone) {
  const std::vector<std::function<std::shared_ptr<Discriminator>()>> makers{
      [] { return PatchDiscriminator(PatchDiscriminatorOptions{.width = 16}).ptr(); },
      [] { return DinoDiscriminator(small_trunk(), HeadNormKind::batch).ptr(); }};
  for (const auto& make : makers) {
    const auto one = make(), other = make();
    at::manual_seed(1);
    const auto undisturbed = at::rand({4});
    at::manual_seed(1);
    one->initialise(make_generator(7));
    EXPECT_TRUE(at::rand({4}).equal(undisturbed)) << "the global generator was drawn from";
    other->initialise(make_generator(7));
    EXPECT_TRUE(same(*other, copied(*one)));
    other->initialise(make_generator(8));
    EXPECT_FALSE(same(*other, copied(*one)));
    // A network that has been trained begins anew.
    for (const auto& [name, tensor] : state_dict(*other)) at::Tensor(tensor).detach().fill_(3);
    other->initialise(make_generator(7));
    EXPECT_TRUE(same(*other, copied(*one)));
  }
}

TEST(Discriminator, FirstWeightsAreOfThePublishedSize) {
  PatchDiscriminator patches(PatchDiscriminatorOptions{});
  patches->initialise(make_generator(7));
  EXPECT_NEAR(entry(*patches, "main.8.weight").std().item<double>(), 0.02, 1e-4);
  EXPECT_NEAR(entry(*patches, "main.9.weight").mean().item<double>(), 1, 5e-3);
  EXPECT_NEAR(entry(*patches, "main.9.weight").std().item<double>(), 0.02, 2e-3);
  EXPECT_EQ(entry(*patches, "main.0.bias").abs().max().item<double>(), 0);
  auto heads = small_dino();
  EXPECT_NEAR(entry(*heads, "heads.4.1.fn.0.weight_orig").std().item<double>(), 0.02, 1e-3);
  EXPECT_NEAR(entry(*heads, "heads.4.1.fn.0.weight_u").norm().item<double>(), 1, 1e-6);
  EXPECT_NEAR(entry(*heads, "heads.4.1.fn.0.weight_v").norm().item<double>(), 1, 1e-6);
  EXPECT_FALSE(entry(*heads, "heads.0.0.0.weight_u").equal(entry(*heads, "heads.1.0.0.weight_u")));
}

TEST(DinoDiscriminator, TrainsItsHeadsAlone) {
  auto network = small_dino();
  EXPECT_EQ(state_dict(*network).size(), 80U);
  for (const auto& [name, tensor] : state_dict(*network)) EXPECT_TRUE(name.starts_with("heads.")) << name;
  auto pictures = made_up("x", {2, 3, 24, 40}).requires_grad_();
  const auto logits = network->logits(pictures);
  EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 5 * 16}));
  logits.square().mean().backward();
  EXPECT_GT(pictures.grad().norm().item<double>(), 0);
  for (const auto& [name, parameter] : named_parameters(*network)) EXPECT_TRUE(parameter.grad().defined()) << name;
}

TEST(DinoDiscriminator, TheTrunkMovesWithTheModule) {
  const auto trunk = small_trunk();
  const std::shared_ptr<Discriminator> network = DinoDiscriminator(trunk).ptr();
  network->initialise(make_generator(5));
  network->to(at::kDouble);
  EXPECT_EQ(trunk->parameters().front().scalar_type(), at::kDouble);
  const auto logits = network->forward(made_up("x", {2, 3, 24, 40}).to(at::kDouble), make_generator(1));
  EXPECT_EQ(logits.scalar_type(), at::kDouble);
}

TEST(DinoDiscriminator, GreyPicturesAreRepeated) {
  const at::NoGradGuard no_grad;
  auto network = small_dino(HeadNormKind::group);
  network->eval();
  for (const int64_t side : {20, 32, 50}) {
    const auto grey = made_up("grey", {2, 1, side, side});
    EXPECT_TRUE(all_close(network->logits(grey), network->logits(grey.expand({2, 3, side, side})), {.absolute = 1e-6}));
  }
  EXPECT_THAT(message_of([&] { network->logits(made_up("x", {2, 2, 32, 32})); }),
              HasSubstr("expected (B, 3 or 1, h, w), got (2, 2, 32, 32)"));
}

TEST(DinoDiscriminator, RefusesABatchThatDoesNotDivide) {
  const std::vector<int64_t> nine{9, 3, 32, 32};
  EXPECT_THAT(message_of([&] { small_dino()->check(nine); }), HasSubstr("expected 8 or 10, got 9"));
  EXPECT_EQ(message_of([&] { small_dino(HeadNormKind::batch)->check(nine); }), "no error");
}

TEST(DinoDiscriminator, LargePicturesAreSometimesCut) {
  const at::NoGradGuard no_grad;
  auto network = small_dino(HeadNormKind::group);
  network->eval();
  const auto pictures = made_up("x", {2, 3, 48, 40});
  bool has_cut = false, has_shrunk = false;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const auto crop = draw_dino_crop(48, 40, make_generator(seed), 32);
    (crop ? has_cut : has_shrunk) = true;
    const auto logits = network->forward(pictures, make_generator(seed));
    EXPECT_TRUE(logits.equal(network->logits(pictures, crop)));
    if (!crop) continue;
    const auto part = pictures.slice(2, crop->top, crop->top + 32).slice(3, crop->left, crop->left + 32);
    EXPECT_TRUE(all_close(logits, network->logits(part.contiguous()), {.absolute = 1e-5}));
  }
  EXPECT_TRUE(has_cut && has_shrunk);
}

}  // namespace
}  // namespace nextscale
