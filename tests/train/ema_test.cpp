#include "nextscale/train/ema.h"

#include <algorithm>
#include <stdexcept>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;

struct Averaged : torch::nn::Module {
  explicit Averaged(uint64_t seed) {
    auto generator = make_generator(seed);
    weight = register_parameter("weight", torch::randn({3, 4}, generator));
    bias = register_parameter("bias", torch::randn({3}, generator));
    counts = register_buffer("counts", torch::zeros({3}, torch::kLong));
  }
  torch::Tensor weight, bias, counts;
};

TEST(Ema, AveragesParametersWithAWarmedUpDecayAndCopiesBuffers) {
  Averaged toy(1);
  Ema ema(toy, 0.5);
  auto expected = toy.weight.detach().to(torch::kDouble).clone();
  for (int64_t step = 0; step < 12; ++step) {
    {
      const torch::NoGradGuard no_grad;
      toy.weight.add_(1.0 + static_cast<double>(step));
      toy.counts.fill_(step);
    }
    ema.update(toy, step);
    const double decay = std::min(0.5, (1.0 + static_cast<double>(step)) / (10.0 + static_cast<double>(step)));
    expected = decay * expected + (1 - decay) * toy.weight.detach().to(torch::kDouble);
    EXPECT_TRUE(all_close(find_tensor(ema.weights(), "weight"), expected, {.relative = 1e-5})) << step;
    EXPECT_TRUE(all_close(find_tensor(ema.weights(), "counts"), toy.counts)) << step;
  }
  EXPECT_EQ(find_tensor(ema.weights(), "counts").scalar_type(), torch::kLong);
}

TEST(Ema, KeepsNamesAndOrderOfTheStateDictAndSharesNoStorage) {
  Averaged toy(1);
  const Ema ema(toy, 0.9);
  const auto state = state_dict(toy);
  ASSERT_EQ(ema.weights().size(), state.size());
  for (size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(ema.weights()[i].first, state[i].first);
    EXPECT_FALSE(ema.weights()[i].second.is_alias_of(state[i].second));
    EXPECT_FALSE(ema.weights()[i].second.requires_grad());
  }
}

TEST(Ema, ASwapShowsTheAverageAndPutsTheOwnValuesBackBitForBit) {
  Averaged toy(1);
  Ema ema(toy, 0.9);
  {
    const torch::NoGradGuard no_grad;
    toy.weight.mul_(3);
    toy.counts.fill_(5);
  }
  ema.update(toy, 1000);
  const auto own = toy.weight.detach().clone();
  const auto average = find_tensor(ema.weights(), "weight").clone();
  ASSERT_FALSE(all_close(own, average));
  try {
    const Ema::Swap swap(toy, ema);
    EXPECT_TRUE(all_close(toy.weight, average));
    throw std::runtime_error("a failing validation");
  } catch (const std::runtime_error&) {
  }
  EXPECT_TRUE(all_close(toy.weight, own));
  EXPECT_TRUE(all_close(find_tensor(ema.weights(), "weight"), average));
  EXPECT_TRUE(toy.weight.requires_grad());
}

TEST(Ema, LoadsWhatItHadAndRefusesWhatDoesNotFit) {
  Averaged toy(1);
  Ema ema(toy, 0.9);
  NamedTensors stored;
  for (const auto& [name, tensor] : ema.weights()) stored.emplace_back(name, tensor.clone() + 1);
  ema.load(stored, "ema.safetensors");
  for (size_t i = 0; i < stored.size(); ++i) EXPECT_TRUE(all_close(ema.weights()[i].second, stored[i].second));
  stored[0].second = torch::zeros({4, 3});
  try {
    ema.load(stored, "ema.safetensors");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "ema.safetensors: weight: shape differs: expected (3, 4), got (4, 3)");
  }
}

}  // namespace
}  // namespace nextscale
