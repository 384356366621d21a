#pragma once

#include <cstdint>

#include <ATen/ATen.h>

#include "nextscale/base/random.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

/// Models of a size at which rounding shows, with weights that make every part matter; the same in every call.
namespace nextscale::testing {

inline constexpr int64_t kClasses = 10;

/// Pictures of 64 px, maps of 1 to 16.
inline Tokenizer fast_tokenizer() {
  Tokenizer tokenizer(tokenizer_preset("fast", 64, 3));
  tokenizer->initialise(make_generator(1));
  tokenizer->eval();
  const at::NoGradGuard no_grad;
  auto generator = make_generator(2);
  const auto features = tokenizer->features(at::rand({2, 3, 64, 64}, generator).mul(2).sub(1));
  auto codebook = find_tensor(named_parameters(*tokenizer), "quantize.embedding.weight");
  codebook.normal_(0, features.std().item<double>(), generator);
  return tokenizer;
}

inline Transformer middling_transformer(const QuantizerOptions& quantizer) {
  Transformer transformer(TransformerOptions{.codes = quantizer.codes,
                                             .code_width = quantizer.code_width,
                                             .sides = quantizer.sides,
                                             .classes = kClasses,
                                             .depth = 6,
                                             .width = 256,
                                             .heads = 4});
  const at::NoGradGuard no_grad;
  auto generator = make_generator(3);
  for (auto& parameter : transformer->parameters()) parameter.normal_(0, 0.05, generator);
  transformer->eval();
  return transformer;
}

inline at::Tensor labels_of(int64_t count) { return at::arange(count).remainder(kClasses); }

inline at::Tensor random_tokens(const Tokenizer& tokenizer, int64_t pictures) {
  auto generator = make_generator(4);
  return at::randint(tokenizer->options().quantizer.codes, {pictures, tokenizer->scales().length()}, generator,
                     at::kLong);
}

}  // namespace nextscale::testing
