// The loops for bfloat16 against LibTorch's operators in float64.
#include "nextscale/var/bfloat16_operators.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/var/attention.h"

namespace nextscale::testing {
namespace {

constexpr double kRounding = 1.0 / 256;  // of bfloat16: half a step is 1/512 of a value
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Every magnitude that occurs, both signs. (count)
at::Tensor values(int64_t count, uint64_t seed) {
  auto generator = make_generator(seed);
  return (at::randn({count}, generator, at::kDouble) * at::randn({count}, generator, at::kDouble).exp())
      .to(at::kBFloat16);
}

TEST(Bfloat16Operators, GeluIsTheLibrarysRoundedOnce) {
  for (const int64_t count : {1, 31, 32, 1000, 70'000}) {
    const auto x = values(count, 1);
    const auto expected = at::gelu(x.to(at::kDouble), "tanh");
    EXPECT_TRUE(all_close(gelu_tanh(x).to(at::kDouble), expected, {.relative = kRounding, .absolute = 1e-12})) << count;
  }
  const auto edges = at::tensor({0.0, 3e38, -3e38, 200.0, -200.0, kNan}, at::kDouble).to(at::kBFloat16);
  const auto y = gelu_tanh(edges).to(at::kDouble);
  EXPECT_EQ(y[0].item<double>(), 0);
  EXPECT_EQ(y[1].item<double>(), edges[1].item<double>());
  EXPECT_NEAR(y[2].item<double>(), 0, 20);  // 3e38 times the smallest gate
  EXPECT_EQ(y[3].item<double>(), 200);
  EXPECT_NEAR(y[4].item<double>(), 0, 1e-30);
  EXPECT_TRUE(std::isnan(y[5].item<double>()));
}

TEST(Bfloat16Operators, GeluGradientIsTheLibrarys) {
  const auto x = values(5000, 2), of_activated = values(5000, 3);
  const auto expected = at::gelu_backward(of_activated.to(at::kDouble), x.to(at::kDouble), "tanh");
  const auto [activated, gradient] = gelu_tanh_gradient(x, of_activated.clone());
  EXPECT_TRUE(at::equal(activated, gelu_tanh(x)));
  // Where the slope crosses zero only its absolute error is small.
  EXPECT_TRUE(all_close(gradient.to(at::kDouble) / of_activated.to(at::kDouble),
                        expected / of_activated.to(at::kDouble), {.relative = kRounding, .absolute = 1e-5}));
}

TEST(Bfloat16Operators, SoftmaxIsTheLibrarys) {
  for (const int64_t columns : {1, 5, 32, 33, 680}) {
    const auto x = values(6 * columns, 4).view({2, 3, columns});
    const auto expected = at::softmax(x.to(at::kDouble) * 0.7, -1);
    const auto y = scaled_softmax(x.clone(), 0.7);
    EXPECT_TRUE(all_close(y.to(at::kDouble), expected, {.relative = kRounding, .absolute = 1e-30})) << columns;
  }
  auto broken = at::zeros({3, 40}, at::kBFloat16);
  broken[1][7] = kNan;
  broken[2].fill_(-std::numeric_limits<double>::infinity());
  broken[2][3] = 1;
  const auto y = scaled_softmax(broken, 1);
  EXPECT_FALSE(y[0].isnan().any().item<bool>());
  EXPECT_TRUE(y[1].isnan().all().item<bool>()) << "a row of which one value is broken is broken";
  EXPECT_EQ(y[2][3].item<double>(), 1);
}

TEST(Bfloat16Operators, WhatHasNoLoopGoesToTheLibrary) {
  const auto x = values(60, 5).view({6, 10});
  const auto mask = at::zeros({6, 10}).index_put_({at::tensor({1}), at::tensor({2})}, at::tensor(-1e9f));
  for (const auto& other : {x.to(at::kFloat), x.to(at::kDouble), x.t()}) {
    EXPECT_TRUE(at::equal(gelu_tanh(other), at::gelu(other, "tanh")));
    EXPECT_TRUE(at::equal(scaled_softmax(other.clone(), 2), at::softmax(other * 2, -1)));
  }
  EXPECT_TRUE(at::equal(scaled_softmax(x.to(at::kFloat), 2, mask), at::softmax(x.to(at::kFloat) * 2 + mask, -1)));
  EXPECT_EQ(scaled_softmax(x.clone(), 2, mask.to(at::kBFloat16))[1][2].item<double>(), 0);
  EXPECT_EQ(gelu_tanh(at::empty({0}, at::kBFloat16)).numel(), 0);
}

/// The largest error of two scales of sampling, of the largest value.
double sampling_error(int64_t width, int64_t first_length, int64_t second_length) {
  SelfAttention attention(AttentionOptions{.width = width, .heads = 4, .l2_norm = true}, at::kCPU);
  const at::NoGradGuard no_grad;
  auto generator = make_generator(6);
  for (auto& parameter : attention->parameters()) parameter.normal_(0, 0.1, generator);
  const int64_t length = first_length + second_length;
  const auto run = [&](at::ScalarType dtype) {
    attention->to(dtype);
    auto keys = at::zeros({3, 4, length, width / 4}, dtype), values = at::zeros_like(keys);
    auto draws = make_generator(7);
    const auto x = at::randn({3, length, width}, draws, at::kFloat).to(dtype);
    const auto first = attention->step(x.narrow(1, 0, first_length), keys, values, 0);
    const auto second = attention->step(x.narrow(1, first_length, second_length), keys, values, first_length);
    return at::cat({first, second}, 1).to(at::kFloat);
  };
  const auto exact = run(at::kFloat);
  return (run(at::kBFloat16) - exact).abs().max().item<double>() / exact.abs().max().item<double>();
}

TEST(Bfloat16Operators, SamplingAttendsAsInFloat32) {
  EXPECT_LT(sampling_error(64, 5, 25), 0.03);
  EXPECT_LT(sampling_error(16, 50, 1000), 0.03) << "more scores than are kept at once";
}

}  // namespace
}  // namespace nextscale::testing
