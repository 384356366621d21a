#include "nextscale/networks/lpips.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/networks/squeezenet.h"
#include "nextscale/networks/vgg16.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/recipe.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::recipe_tensor;
using testing::TemporaryDirectory;

/// Weights that keep values alive through all layers, under their published names.
NamedTensors made_up(const torch::nn::Module& network) {
  NamedTensors weights;
  for (const auto& [name, tensor] : state_dict(network)) {
    const double fan_in = static_cast<double>(tensor.numel()) / static_cast<double>(tensor.size(0));
    const double scale = name.ends_with("bias") ? 0.05 : std::sqrt(6.0 / fan_in);
    weights.emplace_back(name, recipe_tensor("lpips/" + name, tensor.sizes().vec(), scale, 0.0));
  }
  return weights;
}
NamedTensors made_up_heads(const PerceptualTrunk& trunk) {
  NamedTensors weights;
  for (const auto width : trunk.widths()) {
    const auto name = "lin" + std::to_string(weights.size()) + ".model.1.weight";
    weights.emplace_back(name, recipe_tensor("lpips/" + name, {1, width, 1, 1}, 0.5, 0.5));
  }
  return weights;
}
/// The small one: these tests need no large network.
PerceptualDistance small(UnitForm unit = UnitForm::training) {
  auto distance = make_lpips(LpipsTrunk::squeezenet, unit);
  const SqueezeNet trunk;
  distance->load_trunk(made_up(*trunk), "trunk");
  distance->load_heads(made_up_heads(*trunk), "heads");
  return distance;
}

at::Tensor picture(const std::string& name, int64_t batch, int64_t channels, int64_t height, int64_t width) {
  return recipe_tensor("lpips/" + name, {batch, channels, height, width}, 0.9, 0.0);
}

std::vector<int64_t> sides(const std::vector<at::Tensor>& maps, int64_t dimension) {
  std::vector<int64_t> sizes;
  for (const auto& map : maps) sizes.push_back(map.size(dimension));
  return sizes;
}

TEST(Vgg16, HasThePublishedNamesAndShapes) {
  const auto stored = state_dict(*Vgg16());
  EXPECT_EQ(stored.size(), 26u);
  int64_t values = 0;
  std::vector<std::string> weights;
  for (const auto& [name, tensor] : stored) {
    values += tensor.numel();
    EXPECT_FALSE(tensor.requires_grad()) << name;
    if (name.ends_with("weight")) weights.push_back(name.substr(9, name.size() - 16));
  }
  EXPECT_EQ(values, 14'714'688);
  EXPECT_THAT(weights,
              ::testing::ElementsAre("0", "2", "5", "7", "10", "12", "14", "17", "19", "21", "24", "26", "28"));
  EXPECT_EQ(find_tensor(stored, "features.0.weight").sizes(), at::IntArrayRef({64, 3, 3, 3}));
  EXPECT_EQ(find_tensor(stored, "features.17.weight").sizes(), at::IntArrayRef({512, 256, 3, 3}));
  EXPECT_EQ(find_tensor(stored, "features.28.bias").sizes(), at::IntArrayRef({512}));
}

TEST(Vgg16, TapsHaveTheirSizes) {
  const at::NoGradGuard no_grad;
  Vgg16 network;
  const auto taps = network->taps(picture("x", 1, 3, 35, 16));
  EXPECT_EQ(sides(taps, 1), network->widths());
  EXPECT_EQ(sides(taps, 2), (std::vector<int64_t>{35, 17, 8, 4, 2}));
  EXPECT_EQ(sides(taps, 3), (std::vector<int64_t>{16, 8, 4, 2, 1}));
  for (const auto& tap : taps) EXPECT_GE(tap.min().item<float>(), 0);
}

TEST(SqueezeNet, HasThePublishedNamesAndShapes) {
  const auto stored = state_dict(*SqueezeNet());
  EXPECT_EQ(stored.size(), 50u);
  int64_t values = 0;
  for (const auto& [name, tensor] : stored) {
    values += tensor.numel();
    EXPECT_FALSE(tensor.requires_grad()) << name;
  }
  EXPECT_EQ(values, 1'235'496 - 513'000);  // the published file's less its classifier's
  EXPECT_EQ(stored.front().first, "features.0.weight");
  EXPECT_EQ(stored.back().first, "features.12.expand3x3.bias");
  EXPECT_EQ(find_tensor(stored, "features.0.weight").sizes(), at::IntArrayRef({64, 3, 3, 3}));
  EXPECT_EQ(find_tensor(stored, "features.9.squeeze.weight").sizes(), at::IntArrayRef({48, 256, 1, 1}));
  EXPECT_EQ(find_tensor(stored, "features.12.expand3x3.weight").sizes(), at::IntArrayRef({256, 64, 3, 3}));
}

TEST(SqueezeNet, PoolsRoundUp) {
  const at::NoGradGuard no_grad;
  SqueezeNet network;
  const auto taps = network->taps(picture("x", 1, 3, 35, 17));
  EXPECT_EQ(sides(taps, 1), network->widths());
  EXPECT_EQ(sides(taps, 2), (std::vector<int64_t>{17, 8, 4, 2, 2, 2, 2}));  // 7, 3 and 1 if they rounded down
  EXPECT_EQ(sides(taps, 3), (std::vector<int64_t>{8, 4, 2, 1, 1, 1, 1}));
}

TEST(Lpips, IsTheSumOfItsTermsAndZeroOfEqualPictures) {
  const at::NoGradGuard no_grad;
  auto distance = small();
  const auto x0 = picture("x0", 3, 3, 33, 40), x1 = picture("x1", 3, 3, 33, 40);
  const auto whole = distance(x0, x1);
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({3}));
  EXPECT_GT(whole.min().item<float>(), 0.01);
  const auto terms = distance->layer_distances(x0, x1);
  ASSERT_EQ(terms.size(), 7u);
  EXPECT_TRUE(all_close(at::stack(terms).sum(0), whole, {.relative = 1e-6}));
  EXPECT_TRUE(all_close(distance(x0, x0), at::zeros({3})));
  EXPECT_TRUE(all_close(distance->distance(distance->features(x0), distance->features(x1)), whole));
  EXPECT_TRUE(all_close(distance(x1, x0), whole, {.relative = 1e-6}));
  EXPECT_TRUE(all_close(distance(x0.slice(0, 1, 2), x1.slice(0, 1, 2)), whole.slice(0, 1, 2), {.relative = 1e-5}));
}

TEST(Lpips, GreyPicturesAreThoseOfEqualColours) {
  auto distance = small();
  const auto x0 = picture("x0", 2, 1, 32, 32), x1 = picture("x1", 2, 1, 32, 32).requires_grad_();
  const auto colour = x1.detach().repeat({1, 3, 1, 1}).requires_grad_();
  const auto grey_distance = distance(x0, x1), colour_distance = distance(x0.repeat({1, 3, 1, 1}), colour);
  EXPECT_TRUE(all_close(grey_distance, colour_distance));
  grey_distance.sum().backward();
  colour_distance.sum().backward();
  EXPECT_TRUE(all_close(x1.grad(), colour.grad().sum(1, /*keepdim=*/true), {.absolute = 1e-7}));
}

TEST(Lpips, WithoutHeadsAllChannelsWeighOne) {
  const at::NoGradGuard no_grad;
  const SqueezeNet twin;
  const auto weights = made_up(*twin);
  PerceptualDistance unweighted(
      std::make_shared<SqueezeNetImpl>(),
      PerceptualDistanceOptions{.name = "unweighted",
                                .range = {.shift = {-0.030, -0.088, -0.188}, .scale = {0.458, 0.448, 0.450}},
                                .has_heads = false});
  unweighted->load_trunk(weights, "trunk");
  auto headed = make_lpips(LpipsTrunk::squeezenet);
  headed->load_trunk(weights, "trunk");
  auto ones = made_up_heads(*twin);
  for (auto& [name, weight] : ones) weight.fill_(1);
  headed->load_heads(ones, "heads");
  const auto x0 = picture("x0", 2, 3, 32, 32), x1 = picture("x1", 2, 3, 32, 32);
  EXPECT_TRUE(all_close(unweighted(x0, x1), headed(x0, x1)));
  for (const auto& [name, tensor] : state_dict(*unweighted)) EXPECT_EQ(name.find("lin"), name.npos);
}

TEST(Lpips, GradientsAreFiniteWhereAllFeaturesAreZero) {
  // As published they are NaN there. Whether that reaches the picture depends on how a library's ReLU treats NaN, so
  // the features themselves are looked at.
  for (const auto form : {UnitForm::training, UnitForm::evaluation}) {
    const auto alive = unit_length(recipe_tensor("lpips/alive", {2, 64, 3, 4}, 1, 1), form);
    auto features = recipe_tensor("lpips/features", {2, 64, 3, 4}, 1, 1);
    features.select(2, 1).zero_();
    features.requires_grad_();
    (unit_length(features, form) - alive).square().sum().backward();
    const auto is_finite = features.grad().isfinite();
    EXPECT_TRUE(is_finite.select(2, 0).all().item<bool>() && is_finite.select(2, 2).all().item<bool>());
    EXPECT_EQ(is_finite.select(2, 1).all().item<bool>(), form == UnitForm::training);
  }
}

TEST(Lpips, GradientsAreFiniteInADeadNetwork) {
  // Every bias is negative and every weight zero: no feature of any picture is alive.
  for (const auto trunk : {LpipsTrunk::squeezenet, LpipsTrunk::vgg16}) {
    auto distance = make_lpips(trunk);
    for (auto& parameter : distance->parameters()) parameter.fill_(parameter.dim() == 1 ? -1 : 0);
    const auto x0 = picture("x0", 1, 3, 32, 32), x1 = picture("x1", 1, 3, 32, 32).requires_grad_();
    for (const auto& map : distance->taps(x0)) EXPECT_TRUE(map.eq(0).all().item<bool>());
    distance(x0, x1).sum().backward();
    EXPECT_TRUE(x1.grad().eq(0).all().item<bool>()) << distance->name();
  }
}

TEST(Lpips, GradientsAreFiniteBesideDeadFeatures) {
  // A flat half: the first convolution sees nothing there and has no bias.
  auto distance = small();
  for (auto& [name, tensor] : state_dict(*distance)) {
    if (name.ends_with("bias")) tensor.zero_();
  }
  auto x1 = picture("x1", 1, 3, 48, 48);
  const auto nothing = at::tensor({-0.030, -0.088, -0.188}, at::kFloat).view({1, 3, 1, 1});
  x1.slice(3, 0, 24).copy_(nothing.expand({1, 3, 48, 24}));
  x1.requires_grad_();
  EXPECT_TRUE(distance->taps(x1)[0].slice(3, 0, 8).eq(0).all().item<bool>());
  distance(picture("x0", 1, 3, 48, 48), x1).sum().backward();
  EXPECT_TRUE(x1.grad().isfinite().all().item<bool>());
  EXPECT_GT(x1.grad().abs().max().item<float>(), 0);
}

TEST(Lpips, TheGradientIsThatOfFiniteDifferences) {
  auto distance = small();
  distance->to(at::kDouble);
  const auto x0 = picture("x0", 1, 3, 24, 20).to(at::kDouble);
  auto x1 = picture("x1", 1, 3, 24, 20).to(at::kDouble).requires_grad_();
  const auto direction = picture("direction", 1, 3, 24, 20).to(at::kDouble);
  const auto whole = distance(x0, x1);
  EXPECT_EQ(whole.scalar_type(), at::kDouble);
  whole.sum().backward();
  const at::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  const auto at_step = [&](double step) { return distance(x0, x1 + step * direction).item<double>(); };
  const double expected = (at_step(kStep) - at_step(-kStep)) / (2 * kStep);
  EXPECT_NEAR((x1.grad() * direction).sum().item<double>(), expected, 1e-6 * std::abs(expected) + 1e-8);
}

TEST(Lpips, NothingIsTrainedAndOnlyAskedGradientsAreMade) {
  auto distance = small();
  distance->train();
  EXPECT_FALSE(distance->is_training());
  for (const auto& parameter : distance->parameters()) EXPECT_FALSE(parameter.requires_grad());
  const auto x0 = picture("x0", 1, 3, 32, 32);
  for (const auto& map : distance->features(x0)) EXPECT_FALSE(map.requires_grad());
  auto x1 = x0.clone().requires_grad_();
  EXPECT_TRUE(distance(x0, x1).requires_grad());
}

TEST(Lpips, RunsInBfloat16WithFloat32AroundTheTrunk) {
  auto distance = small();
  const auto x0 = picture("x0", 2, 3, 48, 48), x1 = picture("x1", 2, 3, 48, 48);
  const auto expected = distance(x0, x1);
  auto moved = x1.clone().requires_grad_();
  at::Tensor reduced;
  {
    const AutocastGuard autocast(at::kCPU, at::kBFloat16);
    EXPECT_EQ(distance->taps(x0)[0].scalar_type(), at::kBFloat16);
    for (const auto& map : distance->features(x0)) EXPECT_EQ(map.scalar_type(), at::kFloat);
    reduced = distance(x0.to(at::kBFloat16), moved);
  }
  EXPECT_EQ(reduced.scalar_type(), at::kFloat);
  EXPECT_TRUE(all_close(reduced, expected, {.relative = 0.03}));
  reduced.sum().backward();
  EXPECT_EQ(moved.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(moved.grad().isfinite().all().item<bool>());
}

TEST(Lpips, TakesEitherMemoryFormat) {
  const at::NoGradGuard no_grad;
  auto distance = small();
  const auto x0 = picture("x0", 2, 3, 40, 33), x1 = picture("x1", 2, 3, 40, 33);
  const auto last = at::MemoryFormat::ChannelsLast;
  EXPECT_TRUE(all_close(distance(x0.contiguous(last), x1.contiguous(last)), distance(x0, x1), {.relative = 1e-6}));
}

TEST(Lpips, PicturesThatAreTooSmallAreOneError) {
  const at::NoGradGuard no_grad;
  for (const auto trunk : {LpipsTrunk::vgg16, LpipsTrunk::squeezenet}) {
    auto distance = make_lpips(trunk);
    const auto side = distance->smallest_side();
    EXPECT_EQ(side, trunk == LpipsTrunk::vgg16 ? 16 : 17);
    const auto smallest = picture("x0", 1, 3, side, side);
    EXPECT_TRUE(distance(smallest, smallest + 0.1).isfinite().all().item<bool>());
    for (const auto& [height, width] : {std::pair{side - 1, side + 20}, std::pair{side + 20, side - 1}}) {
      const auto x = picture("x0", 1, 3, height, width);
      EXPECT_THAT(message_of([&] { distance(x, x); }),
                  AllOf(HasSubstr(distance->name()), HasSubstr("pictures are too small"),
                        HasSubstr(std::to_string(side) + " x " + std::to_string(side)),
                        HasSubstr("got " + std::to_string(height) + " x " + std::to_string(width))));
    }
  }
}

TEST(Lpips, ComesBackFromItsFiles) {
  const at::NoGradGuard no_grad;
  const TemporaryDirectory folder;
  const SqueezeNet trunk;
  auto published = made_up(*trunk);
  published.emplace_back("classifier.1.weight", at::zeros({1000, 512, 1, 1}));
  published.emplace_back("classifier.1.bias", at::zeros({1000}));
  const auto files = lpips_files(LpipsTrunk::squeezenet);
  write_pth(folder / files.trunk, published);
  write_pth(folder / files.heads, made_up_heads(*trunk));
  const auto x0 = picture("x0", 1, 3, 32, 32), x1 = picture("x1", 1, 3, 32, 32);
  const auto expected = small()(x0, x1);
  auto loaded = load_lpips(LpipsTrunk::squeezenet, folder.path());
  EXPECT_TRUE(all_close(loaded(x0, x1), expected));
  for (const auto& parameter : loaded->parameters()) EXPECT_FALSE(parameter.requires_grad());
  write_weights(folder / "t.safetensors", {.tensors = published, .metadata = {}});
  write_weights(folder / "h.safetensors", {.tensors = made_up_heads(*trunk), .metadata = {}});
  auto again = load_lpips(LpipsTrunk::squeezenet, folder / "t.safetensors", folder / "h.safetensors");
  EXPECT_TRUE(all_close(again(x0, x1), expected));
}

TEST(Lpips, FilesThatAreNotThereAreNamedWithWhatFetchesThem) {
  const TemporaryDirectory folder;
  EXPECT_EQ(message_of([&] { load_lpips(LpipsTrunk::vgg16, folder.path()); }),
            (folder / "vgg16-397923af.pth").string() +
                ": published weights are not there; they come with scripts/download-weights.sh FOLDER "
                "vgg16-397923af.pth lpips-vgg.pth");
  write_pth(folder / "squeezenet1_1-b8a52dc0.pth", {{"x", at::zeros({1})}});
  EXPECT_THAT(message_of([&] { load_lpips(LpipsTrunk::squeezenet, folder.path()); }),
              AllOf(HasSubstr("/lpips-squeeze.pth: "), HasSubstr("scripts/download-weights.sh FOLDER "
                                                                 "squeezenet1_1-b8a52dc0.pth lpips-squeeze.pth")));
}

TEST(Lpips, RefusesFilesThatDoNotFitWithOneLine) {
  const TemporaryDirectory folder;
  const SqueezeNet trunk;
  const auto refused = [&](bool of_heads, const std::function<void(NamedTensors&)>& damage) {
    auto weights = made_up(*trunk), heads = made_up_heads(*trunk);
    damage(of_heads ? heads : weights);
    write_pth(folder / "trunk.pth", weights);
    write_pth(folder / "heads.pth", heads);
    return message_of([&] { load_lpips(LpipsTrunk::squeezenet, folder / "trunk.pth", folder / "heads.pth"); });
  };
  const auto says = [&](const char* file, const char* entry, const char* what) {
    return AllOf(HasSubstr(file), HasSubstr(entry), HasSubstr(what));
  };
  EXPECT_EQ(refused(false, [](NamedTensors&) {}), "no error");
  EXPECT_THAT(refused(false, [](NamedTensors& all) { all.erase(all.begin() + 2); }),
              says("trunk.pth", "features.3.squeeze.weight", "missing"));
  EXPECT_THAT(refused(false, [](NamedTensors& all) { all.emplace_back("features.13.bias", at::zeros({4})); }),
              says("trunk.pth", "features.13.bias", "does not belong here"));
  EXPECT_THAT(refused(false, [](NamedTensors& all) { all.emplace_back("classifiers.bias", at::zeros({4})); }),
              says("trunk.pth", "classifiers.bias", "does not belong here"));
  EXPECT_THAT(refused(false, [](NamedTensors& all) { all[0].second = at::zeros({64, 3, 7, 7}); }),
              says("trunk.pth", "features.0.weight", "shape differs"));
  EXPECT_THAT(refused(false, [](NamedTensors& all) { all[1].second[5] = std::nan(""); }),
              says("trunk.pth", "features.0.bias", "not finite"));
  EXPECT_THAT(refused(true, [](NamedTensors& all) { all[3].second[0][7] = -1e-6; }),
              says("heads.pth", "lin3.model.1.weight", "negative weights: expected 0 or more"));
  EXPECT_THAT(refused(true, [](NamedTensors& all) { all[3].second[0][7] = INFINITY; }),
              says("heads.pth", "lin3.model.1.weight", "not finite"));
  EXPECT_THAT(refused(true, [](NamedTensors& all) { all.pop_back(); }),
              says("heads.pth", "lin6.model.1.weight", "missing"));
  EXPECT_THAT(refused(true, [](NamedTensors& all) { all.emplace_back("lin7.model.1.weight", at::ones({1, 4, 1, 1})); }),
              says("heads.pth", "lin7.model.1.weight", "does not belong here"));
  EXPECT_THAT(refused(true, [](NamedTensors& all) { std::swap(all[0].second, all[1].second); }),
              says("heads.pth", "lin0.model.1.weight", "shape differs"));
}

}  // namespace
}  // namespace nextscale
