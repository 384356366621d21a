#include "nextscale/networks/spectral_norm.h"

#include <cmath>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/tests/networks/discriminator_support.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::copied;
using testing::entry;
using testing::made_up;
using testing::same;

SpectralConv1d spectral(const SpectralConv1dOptions& options) {
  SpectralConv1d convolution(options);
  convolution->initialise(make_generator(3));
  return convolution;
}

TEST(SpectralConv1d, LargestSingularValueBecomesOne) {
  const at::NoGradGuard no_grad;
  auto convolution = spectral({.in = 7, .out = 5});
  const auto every_column = at::eye(7).unsqueeze(0);  // the answer is the weight itself
  for (int i = 0; i < 300; ++i) convolution(every_column);
  EXPECT_NEAR(at::linalg_svdvals(convolution(every_column)[0])[0].item<double>(), 1, 1e-5);

  auto wide = spectral({.in = 4, .out = 6, .kernel = 3, .circular = true});
  for (int i = 0; i < 300; ++i) wide(made_up("x", {1, 4, 9}));
  const auto matrix = entry(*wide, "weight_orig").flatten(1);
  const auto estimate = entry(*wide, "weight_u").dot(matrix.mv(entry(*wide, "weight_v")));
  EXPECT_NEAR((estimate / at::linalg_svdvals(matrix)[0]).item<double>(), 1, 1e-5);
}

TEST(SpectralConv1d, OnlyTrainingImprovesTheEstimate) {
  const at::NoGradGuard no_grad;
  auto convolution = spectral({.in = 7, .out = 5});
  const auto x = made_up("x", {2, 7, 6});
  convolution->eval();
  const auto before = copied(*convolution);
  const auto first = convolution(x);
  EXPECT_TRUE(same(*convolution, before));
  EXPECT_TRUE(convolution(x).equal(first));
  convolution->train();
  convolution(x);
  EXPECT_FALSE(entry(*convolution, "weight_u").equal(find_tensor(before, "weight_u")));
  EXPECT_FALSE(entry(*convolution, "weight_v").equal(find_tensor(before, "weight_v")));
  EXPECT_TRUE(entry(*convolution, "weight_orig").equal(find_tensor(before, "weight_orig")));
}

TEST(SpectralConv1d, GradientIsThatOfDifferencesWithConstantDirections) {
  auto convolution = spectral({.in = 3, .out = 4, .kernel = 3, .circular = true});
  convolution->to(at::kDouble);
  auto x = made_up("x", {2, 3, 7}).to(at::kDouble).requires_grad_();
  const auto coefficients = made_up("coefficients", {2, 4, 7}).to(at::kDouble);
  const auto loss = [&] { return (convolution(x) * coefficients).sum(); };
  loss().backward();  // in training mode: u and v have moved, the gradient is the one at the new ones
  convolution->eval();
  for (const auto& [name, leaf] : NamedTensors{
           {"weight_orig", entry(*convolution, "weight_orig")}, {"bias", entry(*convolution, "bias")}, {"x", x}}) {
    const at::NoGradGuard no_grad;
    auto values = leaf.view(-1);
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double value = values[i].item<double>(), step = 1e-5;
      values[i] = value + step;
      const double above = loss().item<double>();
      values[i] = value - step;
      const double below = loss().item<double>();
      values[i] = value;
      const double expected = (above - below) / (2 * step), got = leaf.grad().view(-1)[i].item<double>();
      ASSERT_NEAR(got, expected, 1e-6 * (1 + std::abs(expected))) << name << " " << i;
    }
  }
}

TEST(SpectralConv1d, TwoForwardsMayStandBeforeOneBackward) {
  auto together = spectral({.in = 3, .out = 4, .kernel = 3}), apart = spectral({.in = 3, .out = 4, .kernel = 3});
  const auto x = made_up("x", {2, 3, 7}), y = made_up("y", {2, 3, 7});
  const auto first = together(x).square().sum(), second = together(y).square().sum();
  (first + second).backward();
  apart(x).square().sum().backward();
  apart(y).square().sum().backward();
  EXPECT_TRUE(all_close(entry(*together, "weight_orig").grad(), entry(*apart, "weight_orig").grad(),
                        {.relative = 1e-5, .absolute = 1e-3}));
}

TEST(SpectralConv1d, CircularPaddingMakesARing) {
  const at::NoGradGuard no_grad;
  const auto x = made_up("x", {1, 3, 12});
  for (const bool circular : {true, false}) {
    auto convolution = spectral({.in = 3, .out = 2, .kernel = 9, .circular = circular});
    convolution->eval();
    const auto rolled = convolution(x.roll(5, 2)), expected = convolution(x).roll(5, 2);
    EXPECT_EQ(rolled.sizes(), at::IntArrayRef({1, 2, 12}));
    EXPECT_EQ(rolled.allclose(expected, 1e-4, 1e-5), circular);
  }
}

TEST(SpectralConv1d, StaysInFloat32UnderAutocast) {
  const at::NoGradGuard no_grad;
  auto convolution = spectral({.in = 7, .out = 5, .kernel = 3});
  convolution->eval();
  const auto x = made_up("x", {2, 7, 6});
  const auto expected = convolution(x);
  const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
  EXPECT_TRUE(convolution(x).equal(expected));
  EXPECT_EQ(convolution(x.to(at::kBFloat16)).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace nextscale
