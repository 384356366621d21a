#include "nextscale/sample/sampler.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/sample/filter_and_draw.h"
#include "nextscale/sample/fit.h"
#include "nextscale/sample/guidance.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;

/// Weights large enough that class, guidance and earlier scales matter.
void randomise(torch::nn::Module& module, uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto generator = make_generator(seed);
  for (auto& parameter : module.parameters()) parameter.normal_(0, 0.3, generator);
}

struct TinyModel {
  Tokenizer tokenizer{nullptr};
  Transformer transformer{nullptr};
};

TinyModel tiny_model(int64_t classes = 3, std::vector<int64_t> sides = {1, 2, 3}) {
  TokenizerOptions options;
  options.quantizer.codes = 20;
  options.quantizer.code_width = 4;
  options.quantizer.sides = sides;
  options.channels = 1;
  options.ch = 8;
  options.ch_mult = {1, 1};
  options.res_blocks = 1;
  options.norm_groups = 4;
  options.dropout = 0.5;
  TinyModel model{Tokenizer(options), Transformer(TransformerOptions{.codes = 20,
                                                                     .code_width = 4,
                                                                     .sides = sides,
                                                                     .classes = classes,
                                                                     .depth = 2,
                                                                     .width = 16,
                                                                     .heads = 2,
                                                                     .drop_path = 0.5})};
  randomise(*model.tokenizer, 1);
  randomise(*model.transformer, 2);
  model.tokenizer->eval();
  model.transformer->eval();
  return model;
}

Samples sampled(const TinyModel& model, const std::vector<int64_t>& labels, const SampleOptions& options = {},
                uint64_t seed = 0) {
  auto generator = make_generator(seed);
  return sample_pictures(model.transformer, model.tokenizer, at::tensor(labels), options, generator);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

/// Sampling written down without a cache and without shortcuts: both halves always, all earlier scales again each time.
at::Tensor plainly_sampled_tokens(const TinyModel& model, const std::vector<int64_t>& labels, double cfg, int64_t top_k,
                                  uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto transformer = model.transformer;
  const auto quantizer = model.tokenizer->quantizer();
  const auto& scales = quantizer->scales();
  auto generator = make_generator(seed);
  const auto n = static_cast<int64_t>(labels.size());
  const auto both = at::cat({at::tensor(labels), at::full({n}, transformer->label_free_class(), at::kLong)});
  transformer->eval();
  auto tokens = at::zeros({n, scales.length()}, at::kLong);
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto inputs = quantizer->teacher_forcing_input(tokens).repeat({2, 1, 1});  // of later scales: never looked at
    const auto logits = transformer->forward(both, inputs).slice(1, scales.begin(k), scales.end(k));
    const auto guided = guide(logits, guidance_strength(cfg, k, scales.count())).contiguous();
    tokens.slice(1, scales.begin(k), scales.end(k)).copy_(draw_tokens(filter_logits(guided, top_k, 0), generator));
  }
  return tokens;
}

TEST(Sampler, DrawsWhatThePlainTwinDraws) {
  const auto model = tiny_model();
  for (const double cfg : {0.0, 1.5, 4.0}) {
    for (const int64_t top_k : {0, 5}) {
      SCOPED_TRACE(std::to_string(cfg) + ", top-k " + std::to_string(top_k));
      const auto samples = sampled(model, {0, 2, 1, 1}, {.cfg = cfg, .top_k = top_k, .top_p = 0}, 7);
      EXPECT_TRUE(all_close(samples.tokens, plainly_sampled_tokens(model, {0, 2, 1, 1}, cfg, top_k, 7)));
    }
  }
}

TEST(Sampler, ByRecordedStepsDrawsTheSameTokensBatchAfterBatch) {
  const auto model = tiny_model();
  // Does the work again; that no code of ours is needed for it is shown in var's tests.
  StepGraphs graphs(model.transformer, [](const Work& work) { return work; });
  for (const double cfg : {1.5, 0.0, 1.5}) {
    for (const auto& labels : std::vector<std::vector<int64_t>>{{0, 2, 1}, {1, 1, 0}, {2}}) {
      const SampleOptions options{.cfg = cfg, .top_k = 5};
      auto generator = make_generator(7);
      const auto tokens =
          sample_pictures(model.transformer, model.tokenizer, at::tensor(labels), options, generator, {}, &graphs)
              .tokens;
      EXPECT_TRUE(tokens.equal(sampled(model, labels, options, 7).tokens)) << labels.size() << " pictures, cfg " << cfg;
    }
  }
}

TEST(Sampler, SeedClassAndGuidanceDecideTheTokens) {
  const auto model = tiny_model();
  const auto tokens = sampled(model, {0, 1}).tokens;
  EXPECT_TRUE(all_close(sampled(model, {0, 1}).tokens, tokens));
  EXPECT_FALSE(all_close(sampled(model, {0, 1}, {}, 1).tokens, tokens));
  EXPECT_FALSE(all_close(sampled(model, {2, 2}).tokens, tokens));
  EXPECT_FALSE(all_close(sampled(model, {0, 1}, {.cfg = 20}).tokens, tokens));
}

TEST(Sampler, GivesTheTokensTheirFeatureMapAndPictures) {
  const at::NoGradGuard no_grad;
  auto model = tiny_model();
  const auto samples = sampled(model, {0, 1, -1});
  EXPECT_EQ(samples.tokens.sizes(), (std::vector<int64_t>{3, 14}));
  EXPECT_TRUE(all_close(samples.f_hat, model.tokenizer->quantizer()->decode(samples.tokens), {.absolute = 1e-5}));
  const auto pictures = model.tokenizer->decode(samples.tokens) * 0.5 + 0.5;
  EXPECT_EQ(samples.pictures.sizes(), (std::vector<int64_t>{3, 1, 6, 6}));
  EXPECT_TRUE(all_close(samples.pictures, pictures, {.absolute = 1e-5}));
  EXPECT_GE(samples.pictures.min().item<float>(), 0);
  EXPECT_LE(samples.pictures.max().item<float>(), 1);
}

TEST(Sampler, TellsOfEveryScaleWithWhatIsDecodedSoFar) {
  const at::NoGradGuard no_grad;
  const auto model = tiny_model();
  auto generator = make_generator(0);
  std::vector<at::Tensor> seen;
  const auto samples = sample_pictures(model.transformer, model.tokenizer, at::tensor({0, 1}), {}, generator,
                                       [&](int64_t k, const at::Tensor& f_hat) {
                                         EXPECT_EQ(k, static_cast<int64_t>(seen.size()));
                                         seen.push_back(f_hat.clone());
                                       });
  const auto expected = model.tokenizer->quantizer()->decode_per_scale(samples.tokens);
  ASSERT_EQ(seen.size(), expected.size());
  for (size_t k = 0; k < seen.size(); ++k) EXPECT_TRUE(all_close(seen[k], expected[k], {.absolute = 1e-5})) << k;
}

TEST(Sampler, SmoothChangesPicturesAndLeavesTheFirstScaleTokens) {
  const auto model = tiny_model();
  const auto plain = sampled(model, {0, 1}, {.smooth = false});
  const auto smooth = sampled(model, {0, 1}, {.smooth = true});
  EXPECT_TRUE(all_close(smooth.tokens.narrow(1, 0, 1), plain.tokens.narrow(1, 0, 1)));
  EXPECT_FALSE(all_close(smooth.f_hat, plain.f_hat, {.absolute = 1e-3}));
}

TEST(Sampler, SamplesWithoutClassesAndWithASingleScale) {
  const auto unconditional = tiny_model(0);
  EXPECT_EQ(sampled(unconditional, {-1, -1}).pictures.size(0), 2);
  EXPECT_THAT(refusal([&] { sampled(unconditional, {0}); }), HasSubstr("labels"));
  EXPECT_EQ(sampled(tiny_model(3, {2}), {0, 1}).tokens.size(1), 4);
}

TEST(Sampler, LeavesAModelInTrainingInTraining) {
  auto model = tiny_model();
  const auto pictures = sampled(model, {0, 1}).pictures;
  model.transformer->train();
  model.tokenizer->train();
  const auto samples = sampled(model, {0, 1});
  EXPECT_TRUE(model.transformer->is_training());
  EXPECT_TRUE(model.tokenizer->is_training());
  EXPECT_TRUE(all_close(samples.pictures, pictures)) << "dropout took part";
}

TEST(Sampler, RunsInReducedPrecision) {
  const auto samples = sampled(tiny_model(), {0, 1}, {.dtype = c10::kBFloat16});
  EXPECT_EQ(samples.pictures.scalar_type(), at::kFloat);
  EXPECT_TRUE(samples.pictures.isfinite().all().item<bool>());
}

TEST(Sampler, RefusesLabelsThatTheModelDoesNotHave) {
  const auto model = tiny_model();
  EXPECT_THAT(refusal([&] { sampled(model, {0, 3}); }), HasSubstr("from -1 to 2, got 3"));
  EXPECT_THAT(refusal([&] { sampled(model, {-2}); }), HasSubstr("got -2"));
}

TEST(Sampler, SaysThatDamagedWeightsAreDamaged) {
  auto model = tiny_model();
  {
    const at::NoGradGuard no_grad;
    model.transformer->parameters()[0].fill_(NAN);
  }
  EXPECT_THAT(refusal([&] { sampled(model, {0}); }), HasSubstr("not finite"));
}

TEST(CheckFit, NamesBothSidesOfWhatDiffers) {
  const TransformerOptions transformer;
  const QuantizerOptions quantizer;
  EXPECT_EQ(refusal([&] { check_fit(transformer, quantizer); }), "nothing was refused");
  const auto with = [&](auto change) {
    QuantizerOptions other = quantizer;
    change(other);
    return refusal([&] { check_fit(transformer, other); });
  };
  EXPECT_THAT(with([](auto& q) { q.codes = 8192; }), HasSubstr("8192 as the tokenizer has, got 4096 of the model"));
  EXPECT_THAT(with([](auto& q) { q.code_width = 16; }), HasSubstr("16 as the tokenizer has, got 32 of the model"));
  EXPECT_THAT(with([](auto& q) { q.sides = {1, 2}; }), HasSubstr("1,2 as the tokenizer has, got 1,2,3,4,5,6"));
}

TEST(DecodeToUnitRange, InPiecesEveryPictureIsDecodedOnceAndInOrder) {
  const auto model = tiny_model();
  auto generator = make_generator(9);
  const auto f_hat = at::randn({5, 4, 3, 3}, generator, at::kFloat);
  const auto whole = decode_to_unit_range(model.tokenizer, f_hat, at::kFloat, 5);
  ASSERT_EQ(whole.size(0), 5);
  EXPECT_FALSE(all_close(whole[0], whole[4]));
  for (const int64_t at_once : {0, 1, 2}) {
    const auto pieces = decode_to_unit_range(model.tokenizer, f_hat, at::kFloat, at_once);
    EXPECT_TRUE(all_close(pieces, whole, {.absolute = 1e-5})) << at_once;
  }
}

}  // namespace
}  // namespace nextscale::testing
