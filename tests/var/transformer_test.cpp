#include "nextscale/var/transformer.h"

#include <functional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::TemporaryDirectory;

TransformerOptions small() {
  return {.codes = 11,
          .code_width = 5,
          .sides = {1, 2, 3, 5},
          .classes = 4,
          .depth = 3,
          .width = 24,
          .heads = 3,
          .init_adaln_gamma = 1,
          .init_head = 1};
}

Transformer initialised(const TransformerOptions& options, uint64_t seed = 0) {
  Transformer transformer(options);
  transformer->initialise(make_generator(seed));
  transformer->eval();
  return transformer;
}

struct Lesson {
  at::Tensor labels, inputs;
};

Lesson lesson(const TransformerOptions& options, int64_t batch = 3) {
  auto generator = make_generator(5);
  const Scales scales(options.sides);
  const auto inputs = at::randn({batch, scales.length() - scales.area(0), options.code_width}, generator, at::kFloat);
  return {at::randint(options.classes + 1, {batch}, generator, at::kLong), inputs};
}

// Logits of all scales, step by step with the cache, (B, L, V).
at::Tensor stepped(Transformer& transformer, const at::Tensor& labels, const at::Tensor& inputs) {
  const auto& scales = transformer->scales();
  auto cache = transformer->begin_sampling(labels);
  std::vector<at::Tensor> logits;
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto input = k == 0 ? at::Tensor() : inputs.narrow(1, scales.begin(k) - scales.area(0), scales.area(k));
    logits.push_back(transformer->step(k, input, cache));
  }
  return at::cat(logits, 1);
}

std::vector<TransformerOptions> variants() {
  auto shared = small(), plain = small(), wide_start = small();
  shared.shared_aln = true;
  plain.attn_l2_norm = false;
  plain.attention_scale = 1;
  wide_start.sides = {2, 3, 4};
  wide_start.classes = 0;
  return {small(), shared, plain, wide_start};
}

TEST(Transformer, CachedStepsAndTheFullForwardAgree) {
  for (const auto& options : variants()) {
    auto transformer = initialised(options);
    const auto [labels, inputs] = lesson(options);
    const at::NoGradGuard no_grad;
    const auto full = transformer->forward(labels, inputs);
    EXPECT_GT(full.std().item<double>(), 1e-3);
    EXPECT_TRUE(all_close(stepped(transformer, labels, inputs), full, {.absolute = 1e-5}));
  }
}

TEST(Transformer, CachedStepsAndTheFullForwardAgreeInBfloat16) {
  const auto options = small();
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const at::NoGradGuard no_grad;
  const auto exact = transformer->forward(labels, inputs);
  const AutocastGuard half(at::kCPU, at::kBFloat16);
  const auto full = transformer->forward(labels, inputs);
  EXPECT_EQ(full.scalar_type(), at::kFloat);
  EXPECT_FALSE(at::equal(full, exact)) << "autocast had no effect";
  EXPECT_TRUE(all_close(full, exact, {.absolute = 0.05}));
  EXPECT_TRUE(all_close(stepped(transformer, labels, inputs), exact, {.absolute = 0.05}));
}

TEST(Transformer, MatricesThatAreKeptInBfloat16GiveTheSameBitsAsMatricesThatAreCast) {
  const auto options = small();
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const AutocastGuard half(at::kCPU, at::kBFloat16);
  const auto cache = transformer->begin_sampling(labels);
  EXPECT_EQ(cache.keys.front().scalar_type(), at::kBFloat16);
  EXPECT_EQ(cache.values.back().scalar_type(), at::kBFloat16);
  const auto cast = stepped(transformer, labels, inputs);
  transformer->keep_matrices_in(at::kBFloat16);
  for (const auto& [name, parameter] : named_parameters(*transformer)) {
    const bool matrix = name.ends_with("mat_qkv.weight") || name.ends_with("proj.weight") ||
                        name.ends_with("proj.bias") || name.find(".ffn.") != std::string::npos;
    EXPECT_EQ(parameter.scalar_type(), matrix ? at::kBFloat16 : at::kFloat) << name;
  }
  EXPECT_TRUE(at::equal(stepped(transformer, labels, inputs), cast));
}

TEST(Transformer, TheLastScaleIsNotKept) {
  const auto options = small();
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const auto& scales = transformer->scales();
  auto cache = transformer->begin_sampling(labels);
  const int64_t last = scales.count() - 1;
  EXPECT_EQ(cache.keys.front().size(2), scales.begin(last));
  for (int64_t k = 0; k <= last; ++k) {
    const int64_t begin = scales.begin(k) - scales.area(0);
    transformer->step(k, k == 0 ? at::Tensor() : inputs.narrow(1, begin, scales.area(k)), cache);
  }
  for (size_t i = 0; i < cache.keys.size(); ++i) EXPECT_FALSE(cache.keys[i].defined() || cache.values[i].defined());
}

TEST(Transformer, OneInputServesBothHalvesOfAGuidedBatch) {
  const auto options = small();
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const auto both = at::cat({labels, at::full_like(labels, transformer->label_free_class())});
  EXPECT_TRUE(all_close(stepped(transformer, both, inputs), stepped(transformer, both, inputs.repeat({2, 1, 1}))));
}

TEST(Transformer, EveryAttentionPathGivesTheSameGradients) {
  for (const auto& options : variants()) {
    auto transformer = initialised(options);
    const auto [labels, inputs] = lesson(options);
    std::vector<at::Tensor> expected;
    for (const auto path : {AttentionPath::dense, AttentionPath::prefix, AttentionPath::grouped,
                            AttentionPath::written_out, AttentionPath::accumulated, AttentionPath::automatic}) {
      transformer->set_attention_path(path);
      transformer->zero_grad();
      transformer->forward(labels, inputs).square().sum().backward();
      size_t i = 0;
      for (const auto& [name, p] : named_parameters(*transformer)) {
        if (path == AttentionPath::dense) {
          expected.push_back(p.grad().clone());
        } else {
          EXPECT_TRUE(all_close(p.grad(), expected[i++], {.relative = 1e-4, .absolute = 1e-4})) << name;
        }
      }
    }
  }
}

TEST(Transformer, FewerScalesAreTheBeginningOfAll) {
  const auto options = small();
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const at::NoGradGuard no_grad;
  const auto full = transformer->forward(labels, inputs);
  for (int64_t k = 0; k < transformer->scales().count(); ++k) {
    const int64_t end = transformer->scales().end(k);
    const auto part = transformer->forward(labels, inputs.narrow(1, 0, end - 1));
    EXPECT_TRUE(all_close(part, full.narrow(1, 0, end), {.absolute = 1e-5})) << k;
  }
  EXPECT_TRUE(all_close(transformer->forward(labels, {}), full.narrow(1, 0, 1), {.absolute = 1e-5}));
  EXPECT_THROW(transformer->forward(labels, inputs.narrow(1, 0, 6)), Error);
}

TEST(Transformer, StochasticDepthSkipsPicturesByTheGeneratorsDraws) {
  auto options = small();
  options.drop_path = 0.5;
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options, 8);
  const at::NoGradGuard no_grad;
  transformer->train();
  const auto first = transformer->forward(labels, inputs, make_generator(1));
  EXPECT_TRUE(at::equal(first, transformer->forward(labels, inputs, make_generator(1))));
  EXPECT_FALSE(at::equal(first, transformer->forward(labels, inputs, make_generator(2))));
  // Blocks 1 and 2 draw twice, 8 values each; block 0 has rate 0 and draws nothing.
  auto generator = make_generator(1), twin = make_generator(1);
  transformer->forward(labels, inputs, generator);
  for (int i = 0; i < 4; ++i) at::empty({8, 1, 1}).bernoulli_(0.5, twin);
  EXPECT_TRUE(at::equal(at::rand({4}, generator, at::kFloat), at::rand({4}, twin, at::kFloat)));
  transformer->eval();
  EXPECT_TRUE(at::equal(transformer->forward(labels, inputs, make_generator(1)),
                        transformer->forward(labels, inputs, make_generator(2))));
}

TEST(Transformer, DropoutDrawsFromTheGivenGenerator) {
  auto options = small();
  options.drop_rate = options.attn_drop_rate = 0.3;
  auto transformer = initialised(options);
  const auto [labels, inputs] = lesson(options);
  const at::NoGradGuard no_grad;
  const auto still = transformer->forward(labels, inputs);
  transformer->train();
  const auto dropped = transformer->forward(labels, inputs, make_generator(1));
  EXPECT_FALSE(at::equal(dropped, still));
  EXPECT_TRUE(at::equal(dropped, transformer->forward(labels, inputs, make_generator(1))));
}

TEST(Transformer, DroppedLabelsBecomeTheLabelFreeClass) {
  auto generator = make_generator(0);
  const auto labels = at::arange(1000).remainder(4);
  const auto dropped = drop_labels(labels, 4, 0.1, generator);
  EXPECT_TRUE(at::equal(at::where(dropped.eq(4), labels, dropped), labels));
  EXPECT_NEAR(dropped.eq(4).sum().item<double>(), 100, 40);
  EXPECT_TRUE(at::equal(drop_labels(labels, 4, 0, generator), labels));
  EXPECT_TRUE(drop_labels(labels, 4, 1, generator).eq(4).all().item<bool>());
}

TEST(Transformer, TheSameSeedMeansTheSameInitialWeightsAndTheFastPresetItsOwn) {
  auto options = transformer_preset("fast");
  options.depth = 2;
  const auto a = state_dict(*initialised(options, 1)), b = state_dict(*initialised(options, 1)),
             c = state_dict(*initialised(options, 2));
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
  EXPECT_FALSE(at::equal(find_tensor(a, "head.weight"), find_tensor(c, "head.weight")));
  EXPECT_NEAR(find_tensor(a, "pos_1LC").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(find_tensor(a, "class_emb.weight").std().item<double>(), 0.0417, 0.003);
  EXPECT_NEAR(find_tensor(a, "blocks.1.ada_lin.1.weight").narrow(0, 0, 384).std().item<double>(), 4.17e-5, 2e-6);
}

TEST(TransformerOptions, RelationsAndPresetsAreChecked) {
  auto options = small();
  options.heads = 5;
  EXPECT_THROW(check_together(options), Error);
  options = small();
  options.sides = {1, 3, 2};
  EXPECT_THROW(check_together(options), Error);
  EXPECT_THROW(transformer_preset("d17"), Error);
  for (const auto* name : {"d16", "d20", "d24", "d30", "d36-s", "fast"}) {
    const auto preset = transformer_preset(name);
    validate_options(preset);
    check_together(preset);
  }
  EXPECT_EQ(architecture_options(options).size() + 4, bind_transformer_options(options).size());
}

TEST(TransformerFile, SavedAndLoadedIsTheSameModel) {
  const TemporaryDirectory folder;
  for (const auto& options : variants()) {
    auto transformer = initialised(options);
    save_transformer(folder / "model.safetensors", transformer);
    auto loaded = load_transformer(folder / "model.safetensors");
    EXPECT_EQ(options_to_json(loaded->options()), options_to_json(options));
    const auto [labels, inputs] = lesson(options);
    EXPECT_TRUE(at::equal(loaded->forward(labels, inputs), transformer->forward(labels, inputs)));
  }
}

TEST(TransformerFile, TheReferencesMaskIsIgnoredAndItsConstantsMayBeMissing) {
  auto transformer = initialised(small(), 1), other = initialised(small(), 2);
  auto weights = reference_state_dict(transformer);
  EXPECT_EQ(weights[3].first, "attn_bias_for_masking");
  std::erase_if(weights, [](const auto& w) { return w.first.ends_with("zero_k_bias"); });
  load_transformer_weights(other, weights, "file");
  EXPECT_TRUE(at::equal(find_tensor(state_dict(*other), "head.weight"), find_tensor(weights, "head.weight")));
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::failure);
    return e.what();
  }
  return "";
}

TEST(TransformerFile, WhatDoesNotFitIsNamed) {
  const TemporaryDirectory folder;
  const auto path = folder / "model.safetensors";
  auto transformer = initialised(small());
  const auto config = options_to_json(small());
  const auto load_with = [&](NamedTensors tensors, const std::string& format, const std::string& text) {
    write_weights(path, {.tensors = std::move(tensors), .metadata = {{"format", format}, {"config", text}}});
    return message_of([&] { load_transformer(path); });
  };
  const auto good = state_dict(*transformer);
  const std::string format = "nextscale.transformer";
  EXPECT_EQ(load_with(good, format, config.dump()), "");
  EXPECT_NE(load_with(good, "nextscale.tokenizer", config.dump()), "");
  EXPECT_NE(load_with(good, format, "{").find("no valid JSON"), std::string::npos);
  EXPECT_NE(load_with(good, format, "[1]"), "");

  auto changed = config;
  changed["heads"] = 5;
  EXPECT_NE(load_with(good, format, changed.dump()).find("heads"), std::string::npos);
  changed = config;
  changed["surprise"] = 5;
  EXPECT_NE(load_with(good, format, changed.dump()).find("surprise"), std::string::npos);
  changed = config;
  changed["width"] = 48;
  EXPECT_NE(load_with(good, format, changed.dump()).find("another size"), std::string::npos);
  changed = config;
  changed["mlp_ratio"] = 3;
  EXPECT_NE(load_with(good, format, changed.dump()).find("shape differs"), std::string::npos);
  changed = config;
  changed["sides"] = {1, 2, 5, 3};
  EXPECT_NE(load_with(good, format, changed.dump()), "");

  auto missing = good;
  missing.pop_back();
  EXPECT_NE(load_with(missing, format, config.dump()).find("head.bias"), std::string::npos);
  auto extra = good;
  extra.emplace_back("stranger", at::zeros({1}));
  EXPECT_NE(load_with(extra, format, config.dump()).find("stranger"), std::string::npos);
  auto levels = good;
  for (auto& [name, tensor] : levels) {
    if (name == "lvl_1L") tensor = at::zeros_like(tensor);
  }
  EXPECT_NE(load_with(levels, format, config.dump()).find("lvl_1L"), std::string::npos);
  EXPECT_NE(message_of([&] { load_transformer(folder / "nothing"); }), "");
}

}  // namespace
}  // namespace nextscale
