// The same weights and inputs on the CPU and on a GPU. What differs is the order of sums (float32), factors rounded to
// ten bits (TF32) or to eight (bfloat16); tolerances are shares of the spread of what is compared.
#include <cstdio>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/runtime.h"
#include "nextscale/sample/sampler.h"
#include "nextscale/tests/gpu/device.h"
#include "nextscale/tests/gpu/models.h"
#include "nextscale/tests/train/toy_tokens.h"

namespace nextscale::testing {
namespace {

constexpr int64_t kPictures = 4;

struct Agreement {
  double worst = 0, mean = 0;  // of |difference|, in standard deviations of what was expected
};
Agreement agreement(const at::Tensor& actual, const at::Tensor& expected) {
  const auto wanted = expected.detach().to(at::kCPU, at::kDouble);
  const auto off = (actual.detach().to(at::kCPU, at::kDouble) - wanted).abs().div(wanted.std());
  return {off.max().item<double>(), off.mean().item<double>()};
}

void expect_agreement(const Agreement& found, const Agreement& allowed) {
  ::testing::Test::RecordProperty("worst", std::to_string(found.worst));
  ::testing::Test::RecordProperty("mean", std::to_string(found.mean));
  std::printf("  off by %.2g on average, %.2g at worst (in standard deviations)\n", found.mean, found.worst);
  EXPECT_LE(found.worst, allowed.worst);  // false for NaN
  EXPECT_LE(found.mean, allowed.mean);
}

class TransformerOnDevice : public OnDevice {
 protected:
  /// Logits (B, L, V) of teacher forcing.
  at::Tensor logits(const at::Device& device, c10::ScalarType dtype) const {
    const at::NoGradGuard no_grad;
    auto tokenizer = fast_tokenizer();
    auto transformer = middling_transformer(tokenizer->options().quantizer);
    const auto inputs = tokenizer->quantizer()->teacher_forcing_input(random_tokens(tokenizer, kPictures));
    transformer->to(device);
    const AutocastGuard autocast(device.type(), dtype);
    return transformer->forward(labels_of(kPictures).to(device), inputs.to(device));
  }
};

TEST_F(TransformerOnDevice, Float32LogitsAreTheCpusToRounding) {
  const Tf32Guard exact(false);
  expect_agreement(agreement(logits(device_, at::kFloat), logits(at::kCPU, at::kFloat)), {.worst = 1e-3, .mean = 1e-4});
}

TEST_F(TransformerOnDevice, Tf32LogitsAreCloseToTheCpus) {
  const Tf32Guard fast(true);
  expect_agreement(agreement(logits(device_, at::kFloat), logits(at::kCPU, at::kFloat)), {.worst = 0.1, .mean = 0.01});
}

TEST_F(TransformerOnDevice, Bfloat16LogitsAreCloseToTheCpus) {
  const Tf32Guard exact(false);
  expect_agreement(agreement(logits(device_, at::kBFloat16), logits(at::kCPU, at::kFloat)),
                   {.worst = 0.5, .mean = 0.05});
}

class TokenizerOnDevice : public OnDevice {
 protected:
  static at::Tensor pictures() {
    auto generator = make_generator(5);
    return at::rand({kPictures, 3, 64, 64}, generator).mul(2).sub(1);
  }
};

TEST_F(TokenizerOnDevice, Float32TokensAreTheCpus) {
  const Tf32Guard exact(false);
  const at::NoGradGuard no_grad;
  auto tokenizer = fast_tokenizer();
  const auto expected = tokenizer->encode(pictures());
  tokenizer->to(device_);
  const auto equal = tokenizer->encode(pictures().to(device_)).cpu().eq(expected).to(at::kDouble);
  const auto first = equal.narrow(1, 0, 1).mean().item<double>();
  std::printf("  %.4f of the tokens are equal\n", equal.mean().item<double>());
  EXPECT_EQ(first, 1.0);  // nothing before it can have gone another way
  // Where two codes are equally near, rounding decides, and finer scales then differ around it.
  EXPECT_GE(equal.mean().item<double>(), 0.98);
}

TEST_F(TokenizerOnDevice, Float32PicturesAreTheCpusWithinTwoLevels) {
  const Tf32Guard exact(false);
  const at::NoGradGuard no_grad;
  auto tokenizer = fast_tokenizer();
  const auto tokens = random_tokens(tokenizer, kPictures);
  const auto expected = tokenizer->decode(tokens);
  tokenizer->to(device_);
  const auto levels = (tokenizer->decode(tokens.to(device_)).cpu() - expected).abs().max().item<double>() * 127.5;
  std::printf("  %.4f levels of 255 at worst\n", levels);
  EXPECT_LE(levels, 2.0);
}

class SamplingOnDevice : public OnDevice {};

TEST_F(SamplingOnDevice, PicturesAreMadeFromEveryLabel) {
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto generator = make_generator(0);
    const auto samples =
        sample_pictures(transformer, tokenizer, labels_of(kClasses), SampleOptions{.dtype = dtype}, generator);
    EXPECT_EQ(samples.pictures.sizes(), (std::vector<int64_t>{kClasses, 3, 64, 64}));
    EXPECT_TRUE(samples.pictures.isfinite().all().item<bool>());
    EXPECT_TRUE(samples.tokens.ne(samples.tokens[0][0]).any().item<bool>());
  }
}

TEST_F(SamplingOnDevice, TheSameSeedGivesTheSameTokens) {
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  std::vector<at::Tensor> tokens;
  for (int i = 0; i < 2; ++i) {
    auto generator = make_generator(7);
    tokens.push_back(sample_pictures(transformer, tokenizer, labels_of(3), {}, generator).tokens.cpu());
  }
  EXPECT_TRUE(tokens[0].equal(tokens[1]));
}

TEST_F(SamplingOnDevice, GraphsGiveTheTokensOfTheirKernels) {
  if (!can_record_graphs(device_)) GTEST_SKIP() << "built without CUDA graphs";
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    StepGraphs graphs(transformer, cuda_graph_recorder(device_));
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const auto labels = labels_of(kClasses).roll(static_cast<int64_t>(seed));
      const auto tokens = [&](StepGraphs* by) {
        auto generator = make_generator(seed);
        return sample_pictures(transformer, tokenizer, labels, {.dtype = dtype}, generator, {}, by).tokens.cpu();
      };
      EXPECT_TRUE(tokens(&graphs).equal(tokens(nullptr))) << dtype << ", batch " << seed;
    }
  }
}

TEST_F(SamplingOnDevice, TheDevicesOwnDrawsFollowTheSeed) {
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  const auto tokens = [&](uint64_t seed) {
    auto generator = make_generator(seed, device_);
    return sample_pictures(transformer, tokenizer, labels_of(3), {}, generator).tokens.cpu();
  };
  EXPECT_TRUE(tokens(7).equal(tokens(7)));
  EXPECT_FALSE(tokens(7).equal(tokens(8)));
}

class TrainingOnDevice : public OnDevice {
 protected:
  static double loss_after_steps(const at::Device& device, c10::ScalarType dtype) {
    auto recipe = tiny_transformer_recipe();
    auto source = tokens_from_cache(toy_cache(), recipe.loop.batch, 3, device);
    recipe.model = fit_to_tokens(recipe.model, source->quantizer(), kToyClasses);
    TransformerTrainer trainer(recipe, std::move(source), 20, 3, device, dtype, {});
    for (int64_t step = 0; step < 20; ++step) trainer.step(step, false);
    return trainer.validate(20).at("loss");
  }
};

TEST_F(TrainingOnDevice, TwentyStepsInFloat32EndAtTheCpusLoss) {
  const Tf32Guard exact(false);
  EXPECT_NEAR(loss_after_steps(device_, at::kFloat), loss_after_steps(at::kCPU, at::kFloat), 1e-3);
}

TEST_F(TrainingOnDevice, TwentyStepsInBfloat16EndNearTheCpusLoss) {
  EXPECT_NEAR(loss_after_steps(device_, at::kBFloat16), loss_after_steps(at::kCPU, at::kFloat), 0.05);
}

}  // namespace
}  // namespace nextscale::testing
