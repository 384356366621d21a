#include "nextscale/cli/loading.h"

#include <utility>

#include "nextscale/cli/training_verb.h"

namespace nextscale::cli {

void add_loading(CommandLine& line, LoadingOptions& options, Loads loads) {
  auto rows = bind_options(options);
  if (loads == Loads::tokenizer) rows = without(std::move(rows), {"heads", "norm_eps"});
  if (loads == Loads::transformer) rows = without(std::move(rows), {"znorm", "quant_resi", "norm_groups"});
  line.add("Files without a config (the reference's .pth and the like)", rows);
}

TokenizerHints tokenizer_hints(const CommandLine& line, const LoadingOptions& options) {
  TokenizerHints hints;
  if (line.given("sides")) hints.sides = options.sides;
  if (line.given("znorm")) hints.znorm = options.znorm;
  if (line.given("quant_resi")) hints.quant_resi = options.quant_resi;
  if (line.given("norm_groups")) hints.norm_groups = options.norm_groups;
  return hints;
}

TransformerHints transformer_hints(const CommandLine& line, const LoadingOptions& options) {
  TransformerHints hints;
  if (line.given("sides")) hints.sides = options.sides;
  if (line.given("heads") && options.heads != 0) hints.heads = options.heads;
  if (line.given("norm_eps")) hints.norm_eps = options.norm_eps;
  return hints;
}

}  // namespace nextscale::cli
