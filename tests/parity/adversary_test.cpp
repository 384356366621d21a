// Augmentation, blur, LeCam, hinge losses, the adaptive weight and the guards of the codebook against values of other
// programs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "nextscale/networks/patch_discriminator.h"
#include "nextscale/tests/parity/perceptual.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/perceptual.h"
#include "nextscale/train/adversarial_losses.h"
#include "nextscale/train/augmentation.h"
#include "nextscale/train/ema.h"
#include "nextscale/vqvae/codebook.h"
#include "nextscale/vqvae/codebook_training.h"

namespace nextscale {
namespace {

using testing::PerceptualFixture;
using testing::relative_l2;
using testing::relative_to_largest;

constexpr double kOfLargest = 1e-5;

TEST(ParityAugmentation, ShiftsColoursAndCutsAsTheAuthorsTrainer) {
  const PerceptualFixture fixture("diffaug");
  int64_t compared = 0;
  for (const std::string name : {"all", "all_half_up", "translate", "colour", "cut_odd", "cut_half"}) {
    if (!fixture.has(name + "/y")) continue;
    SCOPED_TRACE(name);
    const auto& settings = fixture.cases().at("diffaug/" + name);
    const auto kinds = settings.at("translate_colour_cut").get<std::vector<bool>>();
    const AugmentationOptions options{.translation = kinds[0],
                                      .colour = kinds[1],
                                      .cutout = kinds[2],
                                      .cutout_share = settings.at("cutout").get<double>(),
                                      .rounds_half_up = settings.at("rounding_of_H_times_ratio") == "half_up"};
    const auto x = fixture.input("diffaug/" + name + "/x").requires_grad_();
    const auto y = augmented(x, fixture.input("diffaug/" + name + "/rand"), options);
    EXPECT_LE(relative_to_largest(y, fixture.expected(name + "/y")), kOfLargest);
    (y.square().sum() / 2).backward();
    EXPECT_LE(relative_l2(x.grad(), fixture.expected(name + "/grad_x_of_half_sum_y2")), 1e-5);
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

TEST(ParityAugmentation, BlursAsTheAuthorsTrainer) {
  const PerceptualFixture fixture("diffaug");
  int64_t compared = 0;
  for (const std::string name : {"s1", "s05", "s01", "s005"}) {
    if (!fixture.has("blur/" + name + "/y")) continue;
    SCOPED_TRACE(name);
    const auto y =
        blurred(fixture.input("blur/" + name + "/x"), fixture.cases().at("blur/" + name).at("schedule").get<double>());
    EXPECT_LE(relative_to_largest(y, fixture.expected("blur/" + name + "/y")), kOfLargest);
    ++compared;
  }
  EXPECT_GE(compared, 2);
}

TEST(ParityAdversarialLosses, Formulas) {
  const PerceptualFixture fixture("");
  const auto& expected = fixture.cases().at("losses/formulas");
  const auto real = fixture.input("losses/real"), fake = fixture.input("losses/fake");
  const auto value = [&](const char* name) { return expected.at(name).get<double>(); };
  EXPECT_NEAR(hinge_loss(real, fake).item<double>(), value("hinge_d"), 1e-6);
  EXPECT_NEAR(0.5 * hinge_loss(real, fake).item<double>(), value("hinge_d_half"), 1e-6);
  EXPECT_NEAR(generator_loss(fake).item<double>(), value("generator_linear"), 1e-6);
  const auto right = accuracy(real, fake);
  EXPECT_NEAR(100 * right.real.item<double>(), value("accuracy_real_percent"), 1e-4);
  EXPECT_NEAR(100 * right.fake.item<double>(), value("accuracy_fake_percent"), 1e-4);
  EXPECT_NEAR(at::mse_loss(real, fake).item<double>(), value("consistency_mse_real_vs_fake"), 1e-5);
}

TEST(ParityAdversarialLosses, Lecam) {
  const PerceptualFixture fixture("");
  const auto& expected = fixture.cases().at("losses/lecam");
  Lecam lecam(expected.at("decay").get<double>(), at::kCPU);
  ASSERT_EQ(expected.at("steps").size(), 5U);
  for (size_t step = 0; step < 5; ++step) {
    const auto place = "losses/lecam/" + std::to_string(step);
    const auto& now = expected.at("steps")[step];
    const auto loss = lecam(fixture.input(place + "/real"), fixture.input(place + "/fake"));
    EXPECT_NEAR(loss.item<double>(), now.at("update_then_elementwise").get<double>(), 1e-5);
    EXPECT_NEAR(find_tensor(lecam.state(), "real").item<double>(), now.at("ema_real").get<double>(), 1e-8);
    EXPECT_NEAR(find_tensor(lecam.state(), "fake").item<double>(), now.at("ema_fake").get<double>(), 1e-8);
  }
}

TEST(ParityAdversarialLosses, AdaptiveWeightAndTheGradientsBehindIt) {
  const PerceptualFixture fixture("losses");
  const auto tail = fixture.weights("adaptive");
  const auto weight = find_tensor(tail, "conv_out.weight").requires_grad_();
  PatchDiscriminator discriminator(PatchDiscriminatorOptions{.channels = 3, .width = 8, .layers = 2});
  testing::put_weights(*discriminator, fixture.weights("adaptive_disc"));
  discriminator->train();
  const auto x = fixture.input("adaptive/x");
  const auto decoded = at::conv2d(fixture.input("adaptive/h"), weight, find_tensor(tail, "conv_out.bias"), 1, 1);

  // As the trainer has it: gradients stop at the pixels and are carried to the last layer one by one.
  const auto leaf = decoded.detach().requires_grad_();
  const auto l1 = at::l1_loss(leaf, x), l2 = at::mse_loss(leaf, x);
  const auto nll = 0.2 * l1 + l2;
  const auto of_nll = torch::autograd::grad({nll}, {leaf})[0];
  const auto g = generator_loss(discriminator->forward(leaf));
  const auto of_g = torch::autograd::grad({g}, {leaf})[0];
  const auto there = [&](const at::Tensor& gradient) {
    return torch::autograd::grad({decoded}, {weight}, {gradient}, /*retain_graph=*/true)[0];
  };
  const auto nll_there = there(of_nll), g_there = there(of_g);

  const auto near = [&](const at::Tensor& actual, const char* name) {
    EXPECT_LE(relative_to_largest(actual, fixture.expected(std::string("adaptive/") + name)), kOfLargest) << name;
  };
  near(l1, "l1");
  near(l2, "l2");
  near(nll, "nll");
  near(g, "g");
  near(nll_there, "grad_nll");
  near(g_there, "grad_g");
  near(limited(gradient_ratio(nll_there, g_there, 1e-4), {.eps = 1e-4, .low = 0}), "weight_taming_1e-4_clamp_0_1e4");
  const auto ratio = limited(gradient_ratio(nll_there, g_there, 1e-6), {});
  near(ratio, "weight_vaex_1e-6_clamp_0.015_1e4");
  near(there(of_nll + 0.4 * ratio * of_g), "grad_total_0.4_adaptive");
}

TEST(ParityCodebook, KMeansMovesCentresToTheirMeans) {
  const PerceptualFixture fixture("codebook");
  const auto points = fixture.input("codebook/points");
  auto centres = points.index_select(0, fixture.input("codebook/kmeans_start_rows"));
  centres[7].fill_(9);
  EXPECT_TRUE(testing::all_close(nearest_codes(points, centres, false), fixture.expected("kmeans/assign")));
  const auto moved = lloyd_step(points, centres, false);
  EXPECT_TRUE(testing::all_close(moved.counts.to(at::kLong), fixture.expected("kmeans/counts")));
  EXPECT_LE(relative_to_largest(moved.centres, fixture.expected("kmeans/centres_after_1")), kOfLargest);
  const auto inertia = [&](const at::Tensor& c) {
    return (points - c.index_select(0, nearest_codes(points, c, false))).square().sum().item<double>();
  };
  EXPECT_NEAR(inertia(centres), fixture.cases().at("codebook/kmeans").at("inertia_before").get<double>(), 1e-3);
  EXPECT_NEAR(inertia(moved.centres), fixture.cases().at("codebook/kmeans").at("inertia_after").get<double>(), 1e-3);
}

TEST(ParityCodebook, UsageAndPerplexity) {
  const PerceptualFixture fixture("");
  const auto& expected = fixture.cases().at("codebook/usage");
  const auto drawn = fixture.input("codebook/hits");
  const auto hits = at::where(drawn.lt(12), at::zeros_like(drawn), drawn - 11);
  CodeUsage usage(Scales(std::vector<int64_t>{1}), hits.size(0));
  usage.add(at::arange(hits.size(0)).repeat_interleave(hits).unsqueeze(1));  // a picture a hit
  EXPECT_NEAR(usage.perplexity(), expected.at("perplexity").get<double>(), 1e-9);
  EXPECT_NEAR(usage.used_share(), expected.at("used_fraction").get<double>(), 1e-12);
}

TEST(ParityEma, PlainAndRampedAverages) {
  const PerceptualFixture fixture("losses");
  const double decay = fixture.cases().at("losses/ema").at("decay").get<double>();
  struct One : torch::nn::Module {
    explicit One(const at::Tensor& value) : w(register_parameter("w", value.clone())) {}
    at::Tensor w;
  };
  One one(fixture.input("ema/0"));
  Ema ramped(one, decay, EmaWarmup::in_pairs);
  for (int64_t step = 0; step < 5; ++step) {
    const auto number = std::to_string(step + 1);
    {
      const at::NoGradGuard no_grad;
      one.w.copy_(fixture.input("ema/" + number));
    }
    ramped.update(one, step);
    EXPECT_LE(relative_to_largest(ramped.weights()[0].second, fixture.expected("ema/ramped/" + number)), kOfLargest);
  }
}

}  // namespace
}  // namespace nextscale
