#pragma once

#include <filesystem>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/random.h"
#include "nextscale/io/weights.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

/// Models of random weights that make pictures of 6 x 6 in 14 tokens.
namespace nextscale::testing {

/// @param ch_mult every level after the first doubles the side of the pictures
inline void save_tiny_tokenizer(const std::filesystem::path& path, int64_t channels = 3,
                                const std::vector<int64_t>& ch_mult = {1, 1}) {
  const at::NoGradGuard no_grad;
  auto generator = make_generator(1);
  TokenizerOptions options;
  options.quantizer = {.codes = 20, .code_width = 4, .sides = {1, 2, 3}};
  options.channels = channels;
  options.ch = 8;
  options.ch_mult = ch_mult;
  options.res_blocks = 1;
  options.norm_groups = 4;
  Tokenizer tokenizer(options);
  for (auto& parameter : tokenizer->parameters()) parameter.normal_(0, 0.3, generator);
  save_tokenizer(path, tokenizer);
}

/// Of five classes: shirt, boot, bag, coat, dress.
inline void save_tiny_transformer(const std::filesystem::path& path, const std::vector<int64_t>& sides = {1, 2, 3},
                                  int64_t codes = 20) {
  const at::NoGradGuard no_grad;
  auto generator = make_generator(2);
  Transformer transformer(TransformerOptions{
      .codes = codes, .code_width = 4, .sides = sides, .classes = 5, .depth = 1, .width = 16, .heads = 2});
  for (auto& parameter : transformer->parameters()) parameter.normal_(0, 0.3, generator);
  save_transformer(path, transformer);
  auto file = read_weights(path);
  file.metadata["class_names"] = R"(["shirt","boot","bag","coat","dress"])";
  write_weights(path, file);
}

}  // namespace nextscale::testing
