#include "nextscale/vqvae/residual_quantizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/vqvae/codebook.h"
#include "nextscale/vqvae/resize.h"

namespace nextscale {
namespace {

using testing::all_close;

// Codes of about the size of the features, so that every scale matters.
ResidualQuantizer quantizer_of(const QuantizerOptions& options, uint64_t seed) {
  ResidualQuantizer quantizer(options);
  auto generator = make_generator(seed);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : named_parameters(*quantizer)) parameter.normal_(0, 0.3, generator);
  return quantizer;
}

at::Tensor features_of(const ResidualQuantizer& quantizer, int64_t batch, uint64_t seed) {
  const auto& last = quantizer->scales().last();
  return at::randn({batch, quantizer->options().code_width, last.height, last.width}, make_generator(seed));
}

QuantizerOptions small_options() {
  return {.codes = 20, .code_width = 4, .sides = {1, 2, 3, 5}, .share_quant_resi = 2};
}

std::vector<int64_t> any_sides() {
  auto sides = *rc::gen::nonEmpty(rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(1, 9)));
  if (sides.size() > 6) sides.resize(6);
  std::sort(sides.begin(), sides.end());
  return sides;
}

RC_GTEST_PROP(ResidualQuantizer, DecodingWhatWasEncodedGivesTheFeatureMapOfTraining, ()) {
  const QuantizerOptions options{.codes = *rc::gen::inRange<int64_t>(2, 40),
                                 .code_width = *rc::gen::inRange<int64_t>(1, 6),
                                 .sides = any_sides(),
                                 .quant_resi = *rc::gen::element(0.5, -0.3, 0.0),
                                 .share_quant_resi = *rc::gen::inRange<int64_t>(0, 6),
                                 .znorm = *rc::gen::arbitrary<bool>()};
  auto quantizer = quantizer_of(options, 1);
  const auto f = features_of(quantizer, 2, 2);
  const at::NoGradGuard no_grad;
  const auto trained = quantizer(f);
  RC_ASSERT(trained.tokens.sizes() == at::IntArrayRef({2, quantizer->scales().length()}));
  RC_ASSERT(trained.tokens.ge(0).logical_and(trained.tokens.lt(options.codes)).all().item<bool>());
  RC_ASSERT(all_close(quantizer->decode(trained.tokens), trained.f_hat, {.absolute = 1e-4}));
}

RC_GTEST_PROP(ResidualQuantizer, SamplingStepByStepGivesTeacherForcingsInputsAndTheDecodedMap, ()) {
  auto quantizer = quantizer_of({.codes = 9, .code_width = 3, .sides = any_sides(), .share_quant_resi = 3}, 1);
  const auto& scales = quantizer->scales();
  const auto tokens = at::randint(9, {2, scales.length()}, make_generator(3), at::kLong);
  const at::NoGradGuard no_grad;
  const auto all_inputs = quantizer->teacher_forcing_input(tokens);
  RC_ASSERT(all_inputs.sizes() == at::IntArrayRef({2, scales.length() - scales.area(0), 3}));
  auto f_hat = at::zeros({2, 3, scales.last().height, scales.last().width});
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto codes = quantizer->lookup(tokens.narrow(1, scales.begin(k), scales.area(k)), k);
    const auto input = quantizer->next_input(k, f_hat, codes);
    if (scales.is_last(k)) break;
    const auto expected = all_inputs.narrow(1, scales.begin(k + 1) - scales.area(0), scales.area(k + 1));
    RC_ASSERT(all_close(input.flatten(2).transpose(1, 2), expected));
  }
  RC_ASSERT(all_close(f_hat, quantizer->decode(tokens)));
}

TEST(ResidualQuantizer, TokensOfAFeatureMapMadeOfCodesAreThoseCodes) {
  // One scale and no phi: quantizing a map of codes must find them again.
  auto quantizer = quantizer_of({.codes = 30, .code_width = 6, .sides = {4}, .quant_resi = 0.0}, 5);
  const auto tokens = at::randint(30, {3, 16}, make_generator(6), at::kLong);
  EXPECT_TRUE(all_close(quantizer->encode(quantizer->lookup(tokens, 0)), tokens));
}

TEST(ResidualQuantizer, TheGradientOfAnyUseOfFHatReachesFUnchangedAndNothingElse) {
  auto quantizer = quantizer_of(small_options(), 1);
  auto f = features_of(quantizer, 2, 2).requires_grad_(true);
  const auto w = at::randn(f.sizes(), make_generator(3));
  (quantizer(f).f_hat * w).sum().backward();
  EXPECT_TRUE(all_close(f.grad(), w));
  for (const auto& [name, parameter] : named_parameters(*quantizer)) EXPECT_FALSE(parameter.grad().defined()) << name;
}

TEST(ResidualQuantizer, TheLossIsTheMeanOverScalesOfCommitmentAndCodebookTerms) {
  auto quantizer = quantizer_of(small_options(), 1);
  const auto f = features_of(quantizer, 2, 2);
  const at::NoGradGuard no_grad;
  const auto output = quantizer(f);
  double expected = 0;
  for (const auto& f_hat : quantizer->decode_per_scale(output.tokens)) {
    expected += 1.25 * at::mse_loss(f_hat, f).item<double>() / 4;
  }
  EXPECT_NEAR(output.loss.item<double>(), expected, 1e-5);
}

TEST(ResidualQuantizer, WithTheFirstScalesOnlyFHatIsWhatTheseDecodeTo) {
  auto quantizer = quantizer_of(small_options(), 1);
  const auto f = features_of(quantizer, 2, 2);
  const at::NoGradGuard no_grad;
  const auto whole = quantizer(f);
  const auto first = quantizer(f, 2);
  EXPECT_TRUE(all_close(first.tokens, whole.tokens.narrow(1, 0, 5)));
  EXPECT_TRUE(all_close(first.f_hat, quantizer->decode_per_scale(whole.tokens)[1], {.absolute = 1e-5}));
  EXPECT_EQ(first.residuals.size(), 2);
}

TEST(ResidualQuantizer, ResidualsAreWhatTheTokensAreNearestTo) {
  auto quantizer = quantizer_of(small_options(), 1);
  const at::NoGradGuard no_grad;
  const auto output = quantizer(features_of(quantizer, 3, 2));
  for (int64_t k = 0; k < 4; ++k) {
    const auto ids = output.tokens.narrow(1, quantizer->scales().begin(k), quantizer->scales().area(k)).reshape(-1);
    const auto distances = at::cdist(output.residuals[static_cast<size_t>(k)], quantizer->codebook());
    EXPECT_TRUE(all_close(distances.gather(1, ids.unsqueeze(1)).squeeze(1), distances.amin(1), {.absolute = 1e-3}));
  }
}

TEST(ResidualQuantizer, WithoutCodesEveryScaleTakesItsOwnResidual) {
  auto quantizer = quantizer_of({.codes = 8, .code_width = 4, .sides = {1, 3, 5}, .quant_resi = 0.0}, 1);
  auto f = features_of(quantizer, 2, 2).requires_grad_(true);
  const auto output = quantizer->forward_continuous(f);
  // Without phi the last scale adds all that is left.
  EXPECT_TRUE(all_close(output.f_hat, f, {.absolute = 1e-5}));
  EXPECT_TRUE(all_close(output.residuals[0], f.mean({2, 3}), {.absolute = 1e-6}));
  const auto first = output.residuals[0].unsqueeze(2).unsqueeze(3);
  EXPECT_TRUE(all_close(output.residuals[1].view({2, 3, 3, 4}).permute({0, 3, 1, 2}), area_resize(f - first, {3, 3}),
                        {.absolute = 1e-5}));
  EXPECT_FALSE(output.tokens.defined());
  output.f_hat.sum().backward();
  EXPECT_TRUE(all_close(f.grad(), at::ones_like(f)));
}

TEST(ResidualQuantizer, WithoutCodesTheLossStillTeachesPhi) {
  auto quantizer = quantizer_of(small_options(), 1);
  const auto f = features_of(quantizer, 2, 2);
  const double before = quantizer->forward_continuous(f).loss.item<double>();
  for (int64_t step = 0; step < 50; ++step) {
    quantizer->zero_grad();
    quantizer->forward_continuous(f).loss.backward();
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : named_parameters(*quantizer)) {
      if (parameter.grad().defined()) parameter.sub_(parameter.grad() * 0.1);
    }
  }
  EXPECT_LT(quantizer->forward_continuous(f).loss.item<double>(), 0.9 * before);
}

TEST(ResidualQuantizer, IsFloat32InsideAnAutocastRegion) {
  auto quantizer = quantizer_of(small_options(), 1);
  const auto f = features_of(quantizer, 2, 2);
  const at::NoGradGuard no_grad;
  const auto expected = quantizer(f);
  const AutocastGuard bfloat16(at::kCPU, at::kBFloat16);
  const auto output = quantizer(f);
  EXPECT_TRUE(all_close(output.f_hat, expected.f_hat));
  EXPECT_EQ(output.f_hat.scalar_type(), at::kFloat);
  EXPECT_TRUE(all_close(quantizer->encode(f), expected.tokens));
  EXPECT_EQ(quantizer->teacher_forcing_input(expected.tokens).scalar_type(), at::kFloat);
}

TEST(ResidualQuantizer, MapsOfOtherShapesCanBeEncoded) {
  auto quantizer = quantizer_of(small_options(), 1);
  const auto f = at::randn({2, 4, 4, 6}, make_generator(2));
  const Scales scales(std::vector<MapSize>{{1, 1}, {2, 3}, {4, 6}});
  EXPECT_EQ(quantizer->encode(f, scales).sizes(), at::IntArrayRef({2, 31}));
}

TEST(ResidualQuantizer, WhatDoesNotFitIsRefusedWithBothShapes) {
  auto quantizer = quantizer_of(small_options(), 1);
  EXPECT_THROW(quantizer(at::zeros({2, 4, 4, 4})), Error);
  EXPECT_THROW(quantizer->encode(at::zeros({2, 3, 5, 5})), Error);
  EXPECT_THROW(quantizer->decode(at::zeros({2, 38}, at::kLong)), Error);
  EXPECT_THROW(quantizer->decode(at::zeros({2, 39}, at::kInt)), Error);
  auto f_hat = at::zeros({2, 4, 5, 5});
  EXPECT_THROW(quantizer->next_input(4, f_hat, f_hat), Error);
  EXPECT_THROW(quantizer->next_input(-1, f_hat, f_hat), Error);
  try {
    quantizer->decode(at::zeros({2, 38}, at::kLong));
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "tokens: shape or type differs: expected (2, 39) int64, got (2, 38) int64");
  }
}

RC_GTEST_PROP(Resize, MatricesDoWhatInterpolationDoes, ()) {
  const MapSize large{*rc::gen::inRange<int64_t>(1, 14), *rc::gen::inRange<int64_t>(1, 14)};
  const MapSize small{*rc::gen::inRange<int64_t>(1, large.height + 1), *rc::gen::inRange<int64_t>(1, large.width + 1)};
  const auto x = at::randn({2, 3, large.height, large.width}, make_generator(1));
  const auto y = at::randn({2, 3, small.height, small.width}, make_generator(2));
  RC_ASSERT(
      all_close(x.flatten(2).matmul(area_matrix(large, small)), area_resize(x, small).flatten(2), {.absolute = 1e-5}));
  RC_ASSERT(all_close(y.flatten(2).matmul(bicubic_matrix(small, large)), bicubic_resize(y, large).flatten(2),
                      {.absolute = 1e-5}));
}

TEST(NearestCodes, AreThoseOfTheExactDistanceAtEverySizeAndTheLowestOfEquals) {
  for (const int64_t codes : {2, 3, 15, 16, 17, 255, 4096}) {
    for (const int64_t count : {1, 63, 700}) {
      SCOPED_TRACE(codes * 10000 + count);
      const auto vectors = at::randn({count, 5}, make_generator(1));
      auto codebook = at::randn({codes, 5}, make_generator(2));
      codebook[codes - 1].copy_(codebook[0]);
      const auto ids = nearest_codes(vectors, codebook, false);
      const auto exact = at::cdist(vectors.to(at::kDouble), codebook.to(at::kDouble));
      EXPECT_TRUE(all_close(exact.gather(1, ids.unsqueeze(1)).squeeze(1), exact.amin(1), {.absolute = 1e-5}));
      EXPECT_TRUE(ids.lt(codes - 1).all().item<bool>());
      const auto cosines = at::cosine_similarity(vectors.unsqueeze(1), codebook.unsqueeze(0), 2);
      const auto directions = nearest_codes(vectors, codebook, true);
      EXPECT_TRUE(
          all_close(cosines.gather(1, directions.unsqueeze(1)).squeeze(1), cosines.amax(1), {.absolute = 1e-5}));
    }
  }
}

TEST(NearestCodes, FindEveryCodeOfACodebook) {
  for (const int64_t codes : {2, 15, 16, 17, 100}) {
    const auto codebook = at::randn({codes, 6}, make_generator(2));
    EXPECT_TRUE(all_close(nearest_codes(codebook, codebook, false), at::arange(codes)));
    EXPECT_TRUE(all_close(nearest_codes(3 * codebook, codebook, true), at::arange(codes)));
  }
}

TEST(NearestCodes, StayInsideTheCodebookWhenVectorsAreNotNumbers) {
  const auto vectors = at::full({3, 4}, NAN);
  EXPECT_TRUE(all_close(nearest_codes(vectors, at::ones({8, 4}), false), at::zeros({3}, at::kLong)));
}

TEST(CodeUsage, MeasuresEachScaleByItsOwnSize) {
  const Scales scales(std::vector<int64_t>{1, 2});
  CodeUsage usage(scales, 4);
  usage.add(at::tensor({0, 0, 1, 2, 3, 1, 0, 1, 2, 3}, at::kLong).view({2, 5}));
  EXPECT_EQ(usage.used_shares(), (std::vector<double>{0.5, 1.0}));
  EXPECT_NEAR(usage.perplexities()[0], 2, 1e-9);
  EXPECT_NEAR(usage.perplexities()[1], 4, 1e-9);
  EXPECT_EQ(usage.used_share(), 1);
  EXPECT_TRUE(all_close(usage.counts(), at::tensor({1, 1, 0, 0, 2, 2, 2, 2}, at::kLong).view({2, 4})));
  // The first scale only, 102 pictures in all: code 1, with 5 hits, is above 0.08 of an even use of this scale (2.04)
  // though below that of the finest map (8.16); code 2, with one, is below both.
  for (const auto& [code, pictures] : {std::pair{0, 95}, {1, 4}, {2, 1}})
    usage.add(at::full({pictures, 1}, code, at::kLong));
  EXPECT_EQ(usage.used_shares(), (std::vector<double>{0.5, 1.0}));
  usage.clear();
  EXPECT_EQ(usage.used_share(), 0);
  EXPECT_EQ(usage.used_shares(), (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace nextscale
