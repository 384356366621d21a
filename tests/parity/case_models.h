#pragma once

#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

/// The models of a parity case, with the recipe's weights.
namespace nextscale::testing {

inline TokenizerOptions tokenizer_options_of(const ParityCase& c) {
  const auto& config = c.config();
  TokenizerOptions options;
  options.quantizer = {.codes = config.at("V"),
                       .code_width = config.at("Cvae"),
                       .sides = config.at("sides"),
                       .quant_resi = config.at("quant_resi"),
                       .share_quant_resi = config.at("share_quant_resi"),
                       .znorm = config.at("using_znorm"),
                       .beta = config.at("beta")};
  options.ch = config.at("ch");
  options.ch_mult = config.at("ch_mult").get<std::vector<int64_t>>();
  options.res_blocks = config.at("num_res_blocks");
  return options;
}

/// In evaluation mode; what constructors build is as built.
inline Tokenizer tokenizer_of(const ParityCase& c) {
  Tokenizer tokenizer(tokenizer_options_of(c));
  auto weights = c.weights("vae");
  for (const auto& [name, own] : state_dict(*tokenizer)) {
    if (!find_tensor(weights, name).defined()) weights.emplace_back(name, own);
  }
  load_state_dict(*tokenizer, weights, c.name);
  tokenizer->eval();
  return tokenizer;
}

inline TransformerOptions transformer_options_of(const ParityCase& c) {
  const auto& config = c.config();
  return {.codes = config.at("V"),
          .code_width = config.at("Cvae"),
          .sides = config.at("sides"),
          .classes = config.at("num_classes"),
          .depth = config.at("depth"),
          .width = config.at("width"),
          .heads = config.at("heads"),
          .mlp_ratio = config.at("mlp_ratio"),
          .shared_aln = config.at("shared_aln"),
          .attn_l2_norm = config.at("attn_l2_norm"),
          .norm_eps = config.at("norm_eps"),
          .drop_path = config.value("drop_path", 0.0)};
}

inline Transformer transformer_of(const ParityCase& c, const TransformerOptions& options) {
  Transformer transformer(options);
  load_transformer_weights(transformer, c.weights("var"), c.name);
  transformer->eval();
  return transformer;
}
inline Transformer transformer_of(const ParityCase& c) { return transformer_of(c, transformer_options_of(c)); }

}  // namespace nextscale::testing
