// Training by rounded copies of the matrices: the same numbers as with float32 gradients made of the same bfloat16
// ones.
#include "nextscale/train/rounded_adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/train/toy_tokens.h"
#include "nextscale/train/ema.h"
#include "nextscale/train/optimizer.h"

namespace nextscale {
namespace {

using testing::all_close;

/// Of each group one matrix, which gets a copy, and a bias, which does not.
NamedTensors odd_parameters() {
  auto generator = make_generator(3);
  NamedTensors out;
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
           {"layer.weight", {37, 53}}, {"lvl_embed.weight", {3, 5}}, {"layer.bias", {7}}}) {
    out.emplace_back(name, at::randn(shape, generator).set_requires_grad(true));
  }
  return out;
}

NamedTensors rounded(const NamedTensors& named) {
  NamedTensors out;
  for (const auto& [name, tensor] : named) {
    if (tensor.dim() > 1) out.emplace_back(name, tensor.detach().to(at::kBFloat16).set_requires_grad(true));
  }
  return out;
}

TEST(RoundedAdamW, StepsAsTheLibrarysKernelDoesWithTheSameGradientsInFloat32) {
  const auto plain = odd_parameters(), named = odd_parameters();
  const auto copies = rounded(named);
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3};
  AdamW twin(plain, options, transformer_parameter_decays), optimizer(named, options, transformer_parameter_decays);
  optimizer.use_rounded(copies);
  for (int64_t step = 0; step < 4; ++step) {
    auto generator = make_generator(static_cast<uint64_t>(40 + step));
    for (size_t i = 0; i < named.size(); ++i) {
      auto shape = named[i].second.sizes().vec();
      if (step == 1) std::reverse(shape.begin(), shape.end());
      auto gradient = at::randn(shape, generator).to(at::kBFloat16);
      if (step == 1) gradient = gradient.t();  // as a matrix product may hand it over
      auto parameter = plain[i].second, own = i < copies.size() ? copies[i].second : named[i].second;
      parameter.mutable_grad() = gradient.to(at::kFloat).contiguous();
      own.mutable_grad() = i < copies.size() ? gradient : parameter.grad().clone();
    }
    const double largest = step == 2 ? 0.5 : 1e6;
    EXPECT_NEAR(optimizer.clip_gradients(largest).item<double>(), twin.clip_gradients(largest).item<double>(), 1e-4);
    const auto broken = at::zeros({});
    twin.step(0.1, 0.3, step == 3 ? broken : at::Tensor());
    optimizer.step(0.1, 0.3, step == 3 ? broken : at::Tensor());
    for (size_t i = 0; i < named.size(); ++i) {
      EXPECT_TRUE(all_close(named[i].second, plain[i].second, {.relative = 1e-6, .absolute = 1e-6}))
          << named[i].first << ", step " << step;
    }
    for (size_t i = 0; i < copies.size(); ++i) {
      EXPECT_TRUE(copies[i].second.equal(named[i].second.to(at::kBFloat16))) << named[i].first << ", step " << step;
    }
  }
  const auto expected = twin.state(), state = optimizer.state();
  for (size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i].first, expected[i].first);
    EXPECT_TRUE(all_close(state[i].second, expected[i].second, {.relative = 1e-5, .absolute = 1e-6}));
  }
  optimizer.zero_grad();
  for (const auto& [name, copy] : copies) EXPECT_FALSE(copy.grad().defined()) << name;
}

TEST(RoundedAdamW, ABrokenStepAndAMissingGradientChangeNothing) {
  const auto named = odd_parameters();
  const auto copies = rounded(named);
  AdamW optimizer(named, {}, transformer_parameter_decays);
  optimizer.use_rounded(copies);
  const auto before = named[0].second.detach().clone(), other = named[1].second.detach().clone();
  auto copy = copies[0].second;
  copy.mutable_grad() = at::full_like(copy, NAN, copy.options().requires_grad(false));
  optimizer.clip_gradients(1);
  optimizer.step(0.1, 0.3, at::ones({}));
  EXPECT_TRUE(named[0].second.equal(before));
  EXPECT_EQ(find_tensor(optimizer.state(), "layer.weight.step").item<double>(), 0);
  copy.mutable_grad().fill_(1);
  optimizer.step(0.1, 0.3, at::zeros({}));
  EXPECT_FALSE(named[0].second.equal(before));
  EXPECT_TRUE(named[1].second.equal(other));
}

TEST(RoundedAdamW, CopiesOfNoParameterOrOfAnotherShapeAreRefused) {
  const auto named = odd_parameters();
  AdamW optimizer(named, {}, transformer_parameter_decays);
  const auto copy = [](at::IntArrayRef shape, at::ScalarType dtype) { return at::zeros(shape, dtype); };
  EXPECT_THROW(optimizer.use_rounded({{"other.weight", copy({37, 53}, at::kBFloat16)}}), c10::Error);
  EXPECT_THROW(optimizer.use_rounded({{"layer.weight", copy({53, 37}, at::kBFloat16)}}), c10::Error);
  EXPECT_THROW(optimizer.use_rounded({{"layer.weight", copy({37, 53}, at::kFloat)}}), c10::Error);
}

TEST(RoundedAdamW, SquaresAreSummedOverEveryValueAndExactly) {
  for (const int64_t count : {0, 1, 31, 32, 33, 4096, 4097, 100'000}) {
    auto generator = make_generator(static_cast<uint64_t>(count));
    const auto x = at::randn({count}, generator).to(at::kBFloat16);
    const double expected = x.to(at::kDouble).square().sum().item<double>();
    const double got = kernels::sum_of_squares(static_cast<const uint16_t*>(x.const_data_ptr()), count);
    EXPECT_NEAR(got, expected, 1e-6 * expected) << count;
  }
}

class RoundedTraining : public ::testing::TestWithParam<bool> {};

/// Steps of a small transformer under autocast, with and without copies.
TEST_P(RoundedTraining, TakesTheStepsThatAutocastTakes) {
  const auto cache = testing::toy_cache();
  auto options = fit_to_tokens(testing::tiny_transformer_recipe().model, quantizer_of(cache)->options(), 3);
  options.shared_aln = GetParam();
  Transformer plain(options), transformer(options);
  for (auto* model : {&plain, &transformer}) {
    (*model)->initialise(make_generator(7));
    (*model)->set_checkpointing(GetParam());
    (*model)->train();
  }
  const auto copies = transformer->round_for_training(at::kBFloat16);
  // mat_qkv, proj, fc1, fc2 of two blocks, AdaLN where it is not shared, and the head
  EXPECT_EQ(copies.size(), GetParam() ? 9U : 11U);
  AdamW twin(named_parameters(*plain), {}, transformer_parameter_decays);
  AdamW optimizer(named_parameters(*transformer), {}, transformer_parameter_decays);
  optimizer.use_rounded(copies);
  const auto start = find_tensor(named_parameters(*plain), "head.weight").detach().clone();
  const auto tokens = cache.train_tokens.narrow(0, 0, 8).to(at::kLong);  // (B, L)
  const auto inputs = quantizer_of(cache)->teacher_forcing_input(tokens).detach();
  const auto step = [&](Transformer& model, AdamW& by) {
    by.zero_grad();
    at::Tensor loss;
    {
      const AutocastGuard autocast(at::kCPU, at::kBFloat16);
      const auto logits = model->forward(cache.train_labels.narrow(0, 0, 8), inputs);
      loss = at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten());
    }
    loss.backward();
    by.clip_gradients(0.5);
    by.step(1e-3, 0.05);
    return loss.item<double>();
  };
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(step(transformer, optimizer), step(plain, twin), 1e-5) << i;
  const auto expected = named_parameters(*plain), got = named_parameters(*transformer);
  // They have moved by up to 4e-3; last bits decide how some are rounded, and with that the next gradients.
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(all_close(got[i].second, expected[i].second, {.absolute = 2e-4})) << got[i].first;
  }
  EXPECT_FALSE(all_close(find_tensor(expected, "head.weight"), start, {.absolute = 1e-3})) << "nothing was learned";
  for (const auto& [name, copy] : copies) {
    EXPECT_FALSE(find_tensor(got, name).grad().defined()) << name;
    EXPECT_TRUE(copy.equal(find_tensor(got, name).to(at::kBFloat16))) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(SharedAlnAndCheckpointing, RoundedTraining, ::testing::Bool());

TEST(RoundedTraining, IsForBfloat16AndForGradientsOfOnePass) {
  const auto own_gradient = [](at::ScalarType dtype, int64_t accumulate) {
    auto recipe = testing::tiny_transformer_recipe();
    recipe.training.accumulate = accumulate;
    auto trainer = testing::toy_trainer(recipe, testing::toy_cache(), 10, /*seed=*/3, dtype);
    trainer.step(0, false);
    return find_tensor(named_parameters(*trainer.transformer()), "head.weight").grad().defined();
  };
  EXPECT_FALSE(own_gradient(at::kBFloat16, 1));
  EXPECT_TRUE(own_gradient(at::kBFloat16, 2)) << "sums in bfloat16 would lose bits";
  EXPECT_TRUE(own_gradient(at::kFloat, 1));
}

TEST(RoundedTraining, CopiesFollowWeightsThatOthersChange) {
  const auto cache = testing::toy_cache();
  Transformer transformer(fit_to_tokens(testing::tiny_transformer_recipe().model, quantizer_of(cache)->options(), 3));
  transformer->initialise(make_generator(7));
  transformer->round_for_training(at::kBFloat16);
  const auto tokens = cache.train_tokens.narrow(0, 0, 4).to(at::kLong);
  const auto inputs = quantizer_of(cache)->teacher_forcing_input(tokens).detach();
  const auto logits = [&](bool training) {
    const at::NoGradGuard no_grad;
    const AutocastGuard autocast(at::kCPU, at::kBFloat16);
    transformer->train(training);
    return transformer->forward(cache.train_labels.narrow(0, 0, 4), inputs);
  };
  EXPECT_TRUE(all_close(logits(true), logits(false)));
  const auto before = logits(true);
  {
    Transformer other(transformer->options());
    other->initialise(make_generator(8));
    const Ema::Swap swap(*transformer, Ema(*other, 0.9));
    EXPECT_FALSE(all_close(logits(false), before, {.absolute = 1e-3}));
    EXPECT_TRUE(all_close(logits(true), logits(false)));
  }
  EXPECT_TRUE(all_close(logits(true), before));
  // In float32 nothing is rounded.
  const at::NoGradGuard no_grad;
  EXPECT_NO_THROW(transformer->forward(cache.train_labels.narrow(0, 0, 4), inputs));
}

}  // namespace
}  // namespace nextscale
