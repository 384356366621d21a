#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "nextscale/base/command_line.h"
#include "nextscale/base/options.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale::cli {

struct SidesOrNone {
  bool operator()(const std::vector<int64_t>& sides) const {
    return std::all_of(sides.begin(), sides.end(), [](int64_t side) { return side >= 1 && side <= 1024; });
  }
  std::string rule() const { return "numbers between 1 and 1024"; }
};

/// What files of others do not say of themselves; on every verb that loads a tokenizer or a transformer.
struct LoadingOptions {
  std::vector<int64_t> sides;
  int64_t heads = 0;
  double norm_eps = 1e-6;
  bool znorm = false;
  double quant_resi = 0.5;
  int64_t norm_groups = 32;

  static constexpr auto table() {
    using O = LoadingOptions;
    return std::tuple{
        option("sides", &O::sides, "sides of the token maps, coarse to fine; empty = of the model, or as published",
               SidesOrNone{}),
        option("heads", &O::heads, "attention heads of the model; 0 = of the file, or width / 64", between(0, 1024)),
        option("norm_eps", &O::norm_eps, "epsilon of the model's layer norms", between(1e-12, 0.1)),
        option("znorm", &O::znorm, "the tokenizer's nearest code is by cosine"),
        option("quant_resi", &O::quant_resi, "share of phi's convolution in its blend with the input",
               between(-1.0, 1.0)),
        option("norm_groups", &O::norm_groups, "groups of the tokenizer's GroupNorm", between(1, 1024)),
    };
  }
};

/// What the verb loads.
enum class Loads { tokenizer, transformer, both };

/// The group "Files without a config (.pth of the reference and the like)".
void add_loading(CommandLine& line, LoadingOptions& options, Loads loads);

/// Only what was given counts; the defaults are those of files without a config.
TokenizerHints tokenizer_hints(const CommandLine& line, const LoadingOptions& options);
TransformerHints transformer_hints(const CommandLine& line, const LoadingOptions& options);

}  // namespace nextscale::cli
