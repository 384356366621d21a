// Sampling against the Python reference: the stream of random numbers, filters and draws alone, whole calls.
#include <algorithm>
#include <cstdio>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/sample/filter_and_draw.h"
#include "nextscale/sample/sampler.h"
#include "nextscale/tests/parity/case_models.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {
namespace {

at::Tensor integers(const nlohmann::json& list) { return at::tensor(list.get<std::vector<int64_t>>(), at::kLong); }
at::Tensor floats(const nlohmann::json& list) { return at::tensor(list.get<std::vector<double>>()).to(at::kFloat); }

// ---- the stream ----

TEST(ParityRandom, GeneratorsDrawTheReferencesNumbers) {
  const auto table = fixture_table("random.json");
  int64_t compared = 0;
  const auto check = [&](const char* key, const auto& draw) {
    if (!table.contains(key)) return;
    EXPECT_TRUE(all_close(draw(), floats(table.at(key)))) << key;  // the whole numbers among them are small
    ++compared;
  };
  const auto uniform = at::full({1, 10}, 0.1);
  check("randperm_12_seed_0", [] { return at::randperm(12, make_generator(0)); });
  check("randint_0_1000_seed_1", [] { return at::randint(0, 1000, {8}, make_generator(1)); });
  check("rand_seed_2", [] { return at::rand({4}, make_generator(2)); });
  check("multinomial_uniform10_of_1_seed_4",
        [&] { return at::multinomial(uniform, 1, true, make_generator(4)).view({-1}); });
  check("multinomial_uniform10_of_5_seed_4",
        [&] { return at::multinomial(uniform, 5, true, make_generator(4)).view({-1}); });
  // The reference's global generator is one of ours with that seed.
  check("bernoulli_0_7_of_12_global_seed_5", [] { return at::empty({12}).bernoulli_(0.7, make_generator(5)); });
  check("rand_4_global_seed_5", [] { return at::rand({4}, make_generator(5)); });
  if (table.contains("exponential_6x50_seed_3")) {
    const auto& expected = table.at("exponential_6x50_seed_3");
    const auto drawn = at::empty({6, 50}).exponential_(1, make_generator(3));
    EXPECT_TRUE(all_close(drawn.view({-1}).narrow(0, 0, 8), floats(expected.at("first8"))));
    EXPECT_NEAR(drawn.to(at::kDouble).sum().item<double>(), expected.at("sum_in_double").get<double>(), 1e-9);
    ++compared;
  }
  std::printf("compared random.json: %lld tensors\n", static_cast<long long>(compared));
  EXPECT_GT(compared, 0);
}

// ---- filters and draws ----

TEST(ParityFilters, KeptCodesDrawsAndMixturesAreTheReferences) {
  const auto table = fixture_table("filters.json");
  int64_t compared = 0;
  for (const auto& row : table.at("cases")) {
    const auto shape = row.at("shape").get<std::vector<int64_t>>();  // B, l, V
    const auto name = row.at("logits").get<std::string>();
    SCOPED_TRACE(name);
    auto logits = recipe_tensor(name, shape, row.at("scale"), 0);
    if (const double steps = row.at("steps"); steps > 0) logits = (logits * steps).round() / steps;
    const auto filtered = filter_logits(logits, row.at("top_k"), row.at("top_p"));
    auto generator = make_generator(row.at("seed").get<uint64_t>());
    const auto drawn = draw_tokens(filtered, generator);
    const auto mixture = draw_mixture(filtered, row.at("mixture_ratio"), generator);

    auto kept = at::zeros(shape, at::kBool);
    auto expected_tokens = at::zeros({shape[0], shape[1]}, at::kLong);
    auto peaks_at = at::zeros({shape[0], shape[1]}, at::kLong);
    auto peaks = at::zeros({shape[0], shape[1]});
    for (int64_t b = 0; b < shape[0]; ++b) {
      for (int64_t i = 0; i < shape[1]; ++i) {
        const auto at_position = [&](const char* key) { return row.at(key).at(b).at(i); };
        kept[b][i].index_fill_(0, integers(at_position("kept")), true);
        expected_tokens[b][i] = at_position("drawn").get<int64_t>();
        peaks_at[b][i] = at_position("mixture_at").get<int64_t>();
        peaks[b][i] = at_position("mixture_largest").get<double>();
      }
    }
    EXPECT_TRUE(all_close(filtered.isinf().logical_not(), kept));
    EXPECT_TRUE(all_close(filtered.masked_select(kept), logits.masked_select(kept)));
    EXPECT_TRUE(all_close(drawn, expected_tokens));
    EXPECT_TRUE(all_close(mixture.argmax(-1), peaks_at));
    EXPECT_TRUE(all_close(mixture.amax(-1), peaks, {.absolute = 1e-5}));
    compared += 5;
  }
  std::printf("compared filters.json: %lld tensors\n", static_cast<long long>(compared));
  EXPECT_GT(compared, 0);
}

// ---- whole calls ----

/// As the setting gives them: a list, one for all (negative: label-free), or drawn first from the same generator.
at::Tensor labels_of(const nlohmann::json& setting, int64_t classes, at::Generator& generator) {
  const int64_t count = setting.at("B");
  const auto& labels = setting.at("labels");
  if (labels.is_null()) return draw_random_labels(count, classes, generator);
  if (labels.is_number()) return at::full({count}, std::max<int64_t>(labels.get<int64_t>(), -1), at::kLong);
  return integers(labels);
}

bool has_anything(const ParityCase& c, const std::string& prefix) {
  return std::any_of(c.expected.begin(), c.expected.end(),
                     [&](const auto& entry) { return entry.first.starts_with(prefix); });
}

void compare_setting(const ParityCase& c, const std::string& prefix, const nlohmann::json& setting,
                     const Transformer& transformer, const Tokenizer& tokenizer, Compared& compared) {
  const bool smooth = setting.value("more_smooth", false);
  const SampleOptions options{
      .cfg = setting.at("cfg"), .top_k = setting.at("top_k"), .top_p = setting.at("top_p"), .smooth = smooth};
  // Without a seed the reference draws from the global generator, which was seeded just before.
  auto generator = make_generator(setting.at(setting.at("seed").is_null() ? "global_seed" : "seed").get<uint64_t>());
  const auto labels = labels_of(setting, transformer->options().classes, generator);
  if (setting.contains("drawn_labels")) {
    EXPECT_TRUE(all_close(labels, integers(setting.at("drawn_labels"))));
    compared.count();
  }
  const auto samples = sample_pictures(transformer, tokenizer, labels, options, generator);
  // Fallbacks are for sets without tolerances: noise floors of the fixtures; the mixture multiplies logits' noise.
  compared.check(c, prefix + "ids", samples.tokens);
  compared.check(c, prefix + "f_hat", samples.f_hat, smooth ? 0.05 : 1e-4);
  compared.check(c, prefix + "picture", samples.pictures, smooth ? 0.01 : 1e-4);
  compared.check(c, prefix + "picture_u8", bytes_from_unit_range(samples.pictures), smooth ? 2 : 1);
  if (c.has(prefix + "picture_32x32")) {
    const auto shrunk = at::adaptive_avg_pool2d(samples.pictures, {32, 32});  // area
    compared.check(c, prefix + "picture_32x32", shrunk, smooth ? 0.01 : 1e-4);
  }
}

TEST(ParitySampling, TokensAreExactAndPicturesClose) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    SCOPED_TRACE(c.name);
    if (!c.json.contains("sampling") || !c.json.at("weights").contains("var")) continue;
    const auto transformer = transformer_of(c);
    const auto tokenizer = tokenizer_of(c);
    for (size_t i = 0; i < c.json.at("sampling").size(); ++i) {
      const auto prefix = "sample." + std::to_string(i) + ".";
      SCOPED_TRACE(prefix);
      if (!has_anything(c, prefix)) continue;
      compare_setting(c, prefix, c.json.at("sampling").at(i), transformer, tokenizer, compared);
    }
    compared.end_case(c);
  }
}

}  // namespace
}  // namespace nextscale::testing
