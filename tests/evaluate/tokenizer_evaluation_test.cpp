// Reconstructions and token stability with a tokenizer of random weights.
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/data/picture_quality.h"
#include "nextscale/evaluate/reconstructions.h"
#include "nextscale/evaluate/token_stability.h"
#include "nextscale/evaluate/tokenizer_record.h"
#include "nextscale/tests/support/message_of.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kPictureSide = 16, kCodes = 12;

Tokenizer toy_tokenizer(int64_t channels = 3) {
  const at::NoGradGuard no_grad;
  auto options = tokenizer_preset("fast", kPictureSide, channels);
  options.ch = 8;
  options.norm_groups = 4;
  options.quantizer.codes = kCodes;
  options.quantizer.sides = {1, 2, 4};
  Tokenizer tokenizer(options);
  auto generator = make_generator(1);
  for (auto& parameter : tokenizer->parameters()) parameter.normal_(0, 0.3, generator);
  tokenizer->eval();
  return tokenizer;
}

/// As they come from 8-bit files. (count, channels, kPictureSide, kPictureSide)
at::Tensor some_pictures(int64_t count, int64_t channels = 3, uint64_t seed = 2) {
  auto generator = make_generator(seed);
  const auto bytes =
      at::randint(0, 256, {count, channels, kPictureSide / 4, kPictureSide / 4}, generator, at::kLong).to(at::kByte);
  return to_network_range(bytes.repeat_interleave(4, 2).repeat_interleave(4, 3));
}

double value_of(const std::vector<Metric>& metrics, const std::string& name) {
  for (const auto& metric : metrics) {
    if (metric.name == name) return metric.value;
  }
  ADD_FAILURE() << name << " is missing";
  return std::nan("");
}

TEST(ReconstructionQuality, IsTheMeanOverPicturesWhateverTheBatches) {
  auto tokenizer = toy_tokenizer();
  const auto pictures = some_pictures(5);
  ReconstructionQuality whole(tokenizer->scales(), kCodes), parts(tokenizer->scales(), kCodes);
  const auto made = reconstruct(tokenizer, pictures, true);
  ASSERT_EQ(made.after_scale.size(), 3U);
  whole.add(pictures, made);
  for (const auto& [first, count] : {std::pair{0, 2}, {2, 3}}) {
    Reconstruction some{.tokens = made.tokens.narrow(0, first, count), .after_scale = {}};
    for (const auto& after : made.after_scale) some.after_scale.push_back(after.narrow(0, first, count));
    parts.add(pictures.narrow(0, first, count), some);
  }
  EXPECT_EQ(whole.pictures(), 5);
  EXPECT_EQ(whole.pictures_per_scale(), 5);
  const auto all = whole.metrics(), joined = parts.metrics();
  for (const auto& metric : all) EXPECT_NEAR(value_of(joined, metric.name), metric.value, 1e-12) << metric.name;

  const auto bytes = bytes_from_network_range(pictures), again = bytes_from_network_range(made.pictures());
  EXPECT_NEAR(value_of(all, "l1"), (made.pictures() - pictures).abs().mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(all, "psnr"), psnr(bytes, again, 255).mean().item<double>(), 1e-12);
  EXPECT_NEAR(value_of(all, "ssim"), ssim(bytes, again).mean().item<double>(), 1e-12);
  EXPECT_NE(value_of(all, "ssim_luma"), value_of(all, "ssim"));
  // The last scale decodes to the whole reconstruction.
  EXPECT_NEAR(whole.psnr_per_scale().at(2), value_of(all, "psnr"), 1e-12);
  EXPECT_NE(whole.psnr_per_scale().at(0), whole.psnr_per_scale().at(2));
  for (size_t k = 0; k < 3; ++k) EXPECT_NEAR(parts.psnr_per_scale()[k], whole.psnr_per_scale()[k], 1e-12);
  EXPECT_TRUE(at::equal(whole.usage().counts(), parts.usage().counts()));
  EXPECT_EQ(whole.usage().counts().sum().item<int64_t>(), 5 * 21);
}

TEST(ReconstructionQuality, IntervalIsTheStandardErrorOfTheMean) {
  const auto metric = mean_of("x", "x", {1, 2, 3, 4});
  EXPECT_EQ(metric.value, 2.5);
  ASSERT_TRUE(metric.interval);
  EXPECT_NEAR(metric.interval->high - metric.value, 3.182446 * std::sqrt(5.0 / 3) / 2, 1e-5);
  EXPECT_FALSE(mean_of("x", "x", {1}).interval);
  EXPECT_THAT(message_of([] { mean_of("x", "x", {}); }), HasSubstr("no pictures"));
}

TEST(ReconstructionQuality, DecodesEveryScaleOnlyWhereAsked) {
  auto tokenizer = toy_tokenizer(1);
  const auto pictures = some_pictures(3, 1);
  ReconstructionQuality quality(tokenizer->scales(), kCodes,
                                {.name = "far", .title = "Far", .between = [](const auto& a, const auto& b) {
                                   return (a - b).abs().flatten(1).amax(1);
                                 }});
  const auto made = reconstruct(tokenizer, pictures, false);
  EXPECT_EQ(made.after_scale.size(), 1U);
  EXPECT_TRUE(at::allclose(made.pictures(), reconstruct(tokenizer, pictures, true).pictures(), 1e-4, 1e-4));
  quality.add(pictures, made);
  EXPECT_TRUE(quality.psnr_per_scale().empty());
  EXPECT_EQ(quality.pictures_per_scale(), 0);
  const auto metrics = quality.metrics();
  ASSERT_EQ(metrics.size(), 4U) << "grey pictures have one SSIM";
  EXPECT_NEAR(value_of(metrics, "far"), (made.pictures() - pictures).abs().flatten(1).amax(1).mean().item<double>(),
              1e-6);
}

TEST(TokenStability, CountsTheTokensThatChanged) {
  auto tokenizer = toy_tokenizer();
  const at::NoGradGuard no_grad;
  const auto pictures = some_pictures(6);
  const auto tokens = tokenizer->encode(pictures);
  TokenStability stability(tokenizer->scales(), {.noise = 20, .jpeg_quality = 30}, 7);
  stability.add(tokenizer, pictures, tokens, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(stability.pictures(), 6);
  const auto found = stability.disturbances();
  ASSERT_EQ(found.size(), 3U);
  const auto changed = [&](const at::Tensor& disturbed) { return tokenizer->encode(disturbed).ne(tokens); };
  std::vector<uint64_t> seeds;
  for (uint64_t i = 0; i < 6; ++i) seeds.push_back(derived_seed(7, i));
  const std::vector<at::Tensor> expected = {changed(with_noise(pictures, 20, seeds)), changed(shifted_right(pictures)),
                                            changed(through_jpeg(pictures, 30))};
  const auto& scales = tokenizer->scales();
  for (size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(found[i].name);
    ASSERT_EQ(found[i].scales.size(), 3U);
    int64_t in_all = 0;
    for (int64_t k = 0; k < 3; ++k) {
      const auto& scale = found[i].scales[static_cast<size_t>(k)];
      EXPECT_EQ(scale.tokens, 6 * scales.area(k));
      EXPECT_EQ(scale.changed, expected[i].narrow(1, scales.begin(k), scales.area(k)).sum().item<int64_t>());
      EXPECT_GE(scale.share(), 0);
      EXPECT_LE(scale.share(), 1);
      ASSERT_TRUE(scale.interval);
      EXPECT_GE(scale.share(), scale.interval->low);
      EXPECT_LE(scale.share(), scale.interval->high);
      EXPECT_LT(scale.interval->low, scale.interval->high) << "six pictures are no certainty";
      in_all += scale.changed;
    }
    EXPECT_EQ(found[i].all.changed, in_all);
    EXPECT_EQ(found[i].all.tokens, 6 * 21);
    EXPECT_GT(in_all, 0) << "a test that nothing changes tests nothing";
  }
}

TEST(TokenStability, NothingChangesWhereNothingIsDone) {
  auto tokenizer = toy_tokenizer();
  const at::NoGradGuard no_grad;
  const auto pictures = some_pictures(4);
  TokenStability still(tokenizer->scales(), {.noise = 0, .jpeg_quality = 90}, 1);
  still.add(tokenizer, pictures, tokenizer->encode(pictures), {0, 1, 2, 3});
  EXPECT_EQ(still.disturbances()[0].all.changed, 0);
  EXPECT_EQ(still.disturbances()[0].all.share(), 0);

  // Pictures of one colour are the same wherever they are moved, and JPEG keeps these greys.
  const auto flat = to_network_range(at::full({4, 3, kPictureSide, kPictureSide}, 128, at::kByte));
  TokenStability constant(tokenizer->scales(), {}, 1);
  constant.add(tokenizer, flat, tokenizer->encode(flat), {0, 1, 2, 3});
  EXPECT_EQ(constant.disturbances()[1].all.changed, 0);
  EXPECT_EQ(constant.disturbances()[2].all.changed, 0);
  EXPECT_TRUE(TokenStability(tokenizer->scales(), {}, 1).disturbances()[0].scales.empty());
}

TEST(TokenStability, DisturbancesAreWhatTheySay) {
  const auto pictures = some_pictures(3);
  const auto shifted = shifted_right(pictures);
  EXPECT_TRUE(at::equal(shifted.slice(3, 1), pictures.slice(3, 0, kPictureSide - 1)));
  EXPECT_TRUE(at::equal(shifted.select(3, 0), pictures.select(3, 0)));

  const auto grey = at::zeros({2, 3, kPictureSide, kPictureSide});
  const auto noisy = with_noise(grey, 2, {5, 6});
  EXPECT_NEAR(noisy.std().item<double>(), 2 * 2.0 / 255, 0.05 * 2 * 2.0 / 255);
  EXPECT_TRUE(at::equal(with_noise(grey.narrow(0, 1, 1), 2, {6})[0], noisy[1])) << "a picture's noise is its own";
  EXPECT_FALSE(at::equal(noisy[0], noisy[1]));
  EXPECT_LE(with_noise(pictures, 100, {1, 2, 3}).abs().max().item<double>(), 1);

  const auto read = through_jpeg(pictures, 90);
  EXPECT_EQ(read.sizes(), pictures.sizes());
  EXPECT_FALSE(at::equal(read, pictures));
  EXPECT_LT((read - pictures).abs().mean().item<double>(), 0.2);
  EXPECT_LT((through_jpeg(pictures, 100) - pictures).abs().mean().item<double>(),
            (read - pictures).abs().mean().item<double>());
  EXPECT_EQ(through_jpeg(some_pictures(2, 1), 90).size(1), 1);
}

TEST(TokenizerRecord, ScalesHaveMarginsOfTheirOwn) {
  auto tokenizer = toy_tokenizer();
  const auto pictures = some_pictures(6);
  ReconstructionQuality quality(tokenizer->scales(), kCodes);
  quality.add(pictures, reconstruct(tokenizer, pictures, true));
  const TokenStability stability(tokenizer->scales(), {}, 1);
  const TokenizerRecord record{.tokenizer = "some/tokenizer",
                               .tokenizer_hash = "0123",
                               .part = "val",
                               .part_size = 1234,
                               .side = kPictureSide,
                               .channels = 3,
                               .cut = "as they are",
                               .codes = kCodes,
                               .scales = tokenizer->scales(),
                               .quality = quality,
                               .stability = stability,
                               .distance = {},
                               .left_out = {"lpips: no weights"},
                               .warnings = {"few"}};
  const auto json = tokenizer_record_json(record);
  std::vector<double> margins, reachable;
  for (const auto& scale : json.at("scales")) {
    margins.push_back(scale.at("margin"));
    reachable.push_back(scale.at("reachable_codes"));
  }
  EXPECT_THAT(margins, ElementsAre(::testing::DoubleEq(0.08 * 6 / 12.0), ::testing::DoubleEq(0.08 * 24 / 12.0),
                                   ::testing::DoubleEq(0.08 * 96 / 12.0)));
  EXPECT_THAT(reachable, ElementsAre(6, 12, 12));
  const auto text = tokenizer_record_table(record, true);
  for (const char* part : {"6 of 1,234 held-out pictures of 16 x 16", "PSNR", "not computed: lpips", "4x4",
                           "rounded to 8 bits", "warning: few"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_EQ(text.find("noise"), std::string::npos) << "nothing was disturbed";
}

}  // namespace
}  // namespace nextscale::testing
