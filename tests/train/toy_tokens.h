#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/train/transformer_trainer.h"

namespace nextscale::testing {

inline constexpr int64_t kToyClasses = 3;

/// Tokens that mostly follow from class and place, so that there is something to learn, and a little noise.
/// @param noise share of random tokens
inline at::Tensor toy_tokens(const at::Tensor& labels, int64_t length, int64_t codes, double noise, uint64_t seed) {
  auto generator = make_generator(seed);
  const auto regular = (labels.unsqueeze(1) * 5 + at::arange(length) * 3).remainder(codes);
  const auto random = at::randint(codes, regular.sizes(), generator, at::kLong);
  const auto chosen = at::rand(regular.sizes(), generator) < noise;
  return at::where(chosen, random, regular).to(at::kShort);
}

inline TokenCache toy_cache(int64_t pictures = 48, int64_t views = 1, double noise = 0.1) {
  QuantizerOptions options{.codes = 16, .code_width = 4, .sides = {1, 2, 3}};
  ResidualQuantizer quantizer(options);
  auto generator = make_generator(5);
  {
    const at::NoGradGuard no_grad;
    for (auto& parameter : quantizer->parameters()) parameter.normal_(0, 0.5, generator);
  }
  TokenCache cache;
  cache.views = views;
  cache.train_labels = at::arange(pictures).remainder(kToyClasses);
  cache.val_labels = at::arange(24).remainder(kToyClasses);
  const int64_t length = quantizer->scales().length();
  cache.train_tokens = toy_tokens(cache.train_labels.repeat({views}), length, options.codes, noise, 11);
  cache.val_tokens = toy_tokens(cache.val_labels, length, options.codes, noise, 12);
  for (const auto& [name, tensor] : state_dict(*quantizer)) cache.quantizer.emplace_back(name, tensor.detach());
  cache.quantizer_config = options_to_json(options).dump();
  cache.tokenizer_hash = "hash of the tokenizer";
  cache.class_names = {"a", "b", "c"};
  return cache;
}

inline TransformerRecipe tiny_transformer_recipe() {
  auto recipe = transformer_recipe("fast");
  recipe.model.depth = 2;
  recipe.model.width = 32;
  recipe.model.heads = 2;
  recipe.loop.batch = 8;
  recipe.schedule.lr = 5e-3;
  return recipe;
}

inline TransformerTrainer toy_trainer(TransformerRecipe recipe, TokenCache cache, int64_t steps, int64_t seed = 3,
                                      at::ScalarType dtype = at::kFloat) {
  auto source = tokens_from_cache(std::move(cache), recipe.loop.batch, seed, at::kCPU);
  recipe.model = fit_to_tokens(recipe.model, source->quantizer(), kToyClasses);
  return TransformerTrainer(recipe, std::move(source), steps, seed, at::kCPU, dtype,
                            {{"class_names", R"(["a","b","c"])"}, {"tokenizer_hash", "hash of the tokenizer"}});
}

}  // namespace nextscale::testing
