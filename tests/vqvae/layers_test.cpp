#include "nextscale/vqvae/layers.h"

#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/vqvae/norm_silu.h"
#include "nextscale/vqvae/norm_silu_kernels.h"

namespace nextscale {
namespace {

using testing::all_close;

struct NormResult {
  at::Tensor y, x_gradient, weight_gradient, bias_gradient;
};
using NormFunction = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t, double);
NormResult with_gradients(NormFunction function, const at::Tensor& x_values, int64_t groups) {
  auto generator = make_generator(3);
  auto x = x_values.detach().clone().requires_grad_(true);
  auto weight = (1 + 0.3 * at::randn({x.size(1)}, generator)).requires_grad_(true);
  auto bias = (0.3 * at::randn({x.size(1)}, generator)).requires_grad_(true);
  const auto y = function(x, weight, bias, groups, 1e-6);
  const auto to = at::randn(y.sizes(), generator).to(y.scalar_type());
  (y * to).sum().backward();
  return {y, x.grad(), weight.grad(), bias.grad()};
}

TEST(NormSilu, OnePassAgreesWithTheTwoOperatorsInAllSizesAndTypes) {
  for (const auto& [batch, channels, height, width, groups] :
       std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>>{{1, 8, 1, 1, 2},
                                                                            {2, 32, 7, 7, 8},
                                                                            {3, 30, 5, 2, 5},
                                                                            {2, 33, 3, 4, 1},
                                                                            {2, 64, 14, 14, 32},
                                                                            {1, 5, 2, 3, 5}}) {
    SCOPED_TRACE(channels);
    const auto x = (2 * at::randn({batch, channels, height, width}, make_generator(1)) + 0.5)
                       .contiguous(at::MemoryFormat::ChannelsLast);
    const auto expected = with_gradients(norm_silu_plain, x, groups);
    const auto actual = with_gradients(norm_silu, x, groups);
    EXPECT_TRUE(all_close(actual.y, expected.y, {.relative = 1e-5, .absolute = 1e-5}));
    EXPECT_TRUE(all_close(actual.x_gradient, expected.x_gradient, {.relative = 1e-4, .absolute = 5e-5}));
    EXPECT_TRUE(all_close(actual.weight_gradient, expected.weight_gradient, {.relative = 1e-4, .absolute = 1e-4}));
    EXPECT_TRUE(all_close(actual.bias_gradient, expected.bias_gradient, {.relative = 1e-4, .absolute = 1e-4}));

    // bfloat16 keeps 8 bits: both round the same float32 values, x's gradient after its own sums.
    const auto half = with_gradients(norm_silu, x.to(at::kBFloat16), groups);
    const auto exact = with_gradients(norm_silu_plain, x.to(at::kBFloat16).to(at::kFloat), groups);
    EXPECT_EQ(half.y.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(all_close(half.y, exact.y, {.relative = 1.0 / 128, .absolute = 1e-3}));
    EXPECT_TRUE(all_close(half.x_gradient, exact.x_gradient, {.relative = 1.0 / 32, .absolute = 0.03}));
    EXPECT_EQ(half.weight_gradient.scalar_type(), at::kFloat);
  }
}

TEST(NormSilu, GradientIsThatOfFiniteDifferences) {
  auto x = at::randn({1, 4, 2, 2}, make_generator(1)).contiguous(at::MemoryFormat::ChannelsLast);
  const auto gradient = with_gradients(norm_silu, x, 2).x_gradient;
  for (int64_t i = 0; i < 4; ++i) {
    const auto loss = [&](double shift) {
      auto moved = x.clone();
      moved[0][i][1][0].add_(shift);
      auto generator = make_generator(3);
      const auto weight = 1 + 0.3 * at::randn({4}, generator), bias = 0.3 * at::randn({4}, generator);
      const auto y = norm_silu(moved, weight, bias, 2, 1e-6);
      return (y * at::randn(y.sizes(), generator)).sum().item<double>();
    };
    EXPECT_NEAR((loss(0.01) - loss(-0.01)) / 0.02, gradient[0][i][1][0].item<double>(), 5e-3);
  }
}

TEST(NormSilu, KernelsHoldAtExtremesAndRoundAsLibTorchDoes) {
  std::vector<float> x = {0, -1e30f, 1e30f, -88, 88, -20, 20, 1e-30f};
  const std::vector<float> one(1, 1.0f), zero(1, 0.0f);
  kernels::scale_silu(x.data(), one.data(), zero.data(), 8, 1);
  const std::vector<double> expected = {0,    0, 1e30, 0, 88, -20 / (1 + std::exp(20.0)), 20 / (1 + std::exp(-20.0)),
                                        5e-31};
  for (size_t i = 0; i < x.size(); ++i) {
    if (i == 1) continue;  // -1e30 times the smallest sigmoid is no small number; no network gets there
    EXPECT_NEAR(x[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-30) << i;
  }
  auto values = at::randn({1000}, make_generator(1));
  values[7] = NAN;
  values[8] = INFINITY;
  values[9] = 1.00390625;  // halfway between two bfloat16: to even
  auto rounded = at::empty({1000}, at::kBFloat16);
  kernels::float_to_bfloat16(values.const_data_ptr<float>(), static_cast<uint16_t*>(rounded.mutable_data_ptr()), 1000);
  EXPECT_TRUE(all_close(rounded, values.to(at::kBFloat16)));
  auto back = at::empty({1000});
  kernels::bfloat16_to_float(static_cast<const uint16_t*>(rounded.const_data_ptr()), back.mutable_data_ptr<float>(),
                             1000);
  EXPECT_TRUE(all_close(back, rounded.to(at::kFloat)));
}

TEST(AttentionBlock, IsTheSameInBothMemoryOrders) {
  AttentionBlock block(8, 4);
  const at::NoGradGuard no_grad;
  const auto x = at::randn({2, 8, 3, 5}, make_generator(1));
  EXPECT_TRUE(all_close(block(x.contiguous(at::MemoryFormat::ChannelsLast)), block(x), {.absolute = 1e-5}));
}

TEST(Downsample, PadsRightAndBottomOnly) {
  Downsample layer(1);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : layer->parameters()) parameter.zero_();
  layer->parameters()[0].fill_(1);
  // Sums of 3x3 windows whose corners sit at the even positions.
  EXPECT_TRUE(all_close(layer(at::ones({1, 1, 4, 4})), at::tensor({9.f, 6.f, 6.f, 4.f}).view({1, 1, 2, 2})));
}

}  // namespace
}  // namespace nextscale
