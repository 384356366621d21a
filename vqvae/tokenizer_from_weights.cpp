#include "nextscale/vqvae/tokenizer_from_weights.h"

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "nextscale/base/error.h"
#include "nextscale/base/weight_shapes.h"

namespace nextscale {
namespace {

constexpr auto kCodebook = "quantize.embedding.weight";
constexpr auto kUsage = "quantize.ema_vocab_hit_SV";

std::string text_of(const std::vector<int64_t>& sides) { return fmt::format("{}", fmt::join(sides, ",")); }

std::vector<int64_t> sides_of(const WeightShapes& shapes, const TokenizerHints& hints) {
  auto sides = hints.sides ? *hints.sides : hints.fallback_sides;
  const int64_t count = shapes.has(kUsage) ? shapes.size(kUsage, 2, 0) : 0;
  if (sides.empty()) {
    if (count != 0 && count != static_cast<int64_t>(published_sides_256().size())) {
      throw failure({shapes.where(), "sides of the token maps do not follow from the file", "--sides N,N,…",
                     fmt::format("{} scales", count)});
    }
    return published_sides_256();
  }
  if (count != 0 && count != static_cast<int64_t>(sides.size())) {
    const auto got = text_of(sides) + (hints.sides ? "" : " of the model");
    if (hints.sides)
      throw usage({"--sides", "is not what " + shapes.where() + " says", fmt::format("{} sides", count), got});
    throw failure({shapes.where() + ": " + kUsage, "another number of scales", std::to_string(count), got});
  }
  return sides;
}

/// 0 one phi per scale, 1 one for all, n partially shared; nothing where there are no convolutions.
std::optional<int64_t> shared_phis(const WeightShapes& shapes) {
  const std::string prefix = "quantize.quant_resi.";
  if (shapes.has(prefix + "qresi.weight")) return 1;
  if (const auto count = shapes.children(prefix + "qresi_ls."); count > 0) return count;
  if (shapes.children(prefix) > 0) return 0;
  return std::nullopt;
}

std::vector<int64_t> level_widths(const WeightShapes& shapes, int64_t ch) {
  std::vector<int64_t> factors;
  const int64_t levels = shapes.children("encoder.down.");
  for (int64_t level = 0; level < levels; ++level) {
    const auto name = fmt::format("encoder.down.{}.block.0.conv2.weight", level);
    const int64_t width = shapes.size(name, 4, 0);
    if (ch < 1 || width % ch != 0) {
      throw failure({shapes.where() + ": " + name, "no multiple of the first level's width", std::to_string(ch),
                     std::to_string(width)});
    }
    factors.push_back(width / ch);
  }
  if (factors.empty()) throw failure({shapes.where(), "has no encoder", "entries encoder.down.0…", shapes.examples()});
  return factors;
}

template <class Value>
void check_hint(const char* option, const std::optional<Value>& hint, const Value& value, const std::string& where) {
  if (!hint || *hint == value) return;
  throw usage({option, "is not what " + where + " says", fmt::format("{}", value), fmt::format("{}", *hint)});
}

}  // namespace

TokenizerOptions tokenizer_options_from(const NamedTensors& weights, const TokenizerHints& hints,
                                        const std::string& where) {
  const WeightShapes shapes(weights, where);
  if (!shapes.has(kCodebook) || !shapes.has("encoder.conv_in.weight")) {
    throw failure({where, "is no tokenizer", "entries encoder.conv_in.weight, quantize.embedding.weight …",
                   shapes.has("word_embed.weight") ? "those of a transformer" : shapes.examples()});
  }
  TokenizerOptions options;
  auto& quantizer = options.quantizer;
  quantizer.codes = shapes.size(kCodebook, 2, 0);
  quantizer.code_width = shapes.size(kCodebook, 2, 1);
  quantizer.sides = sides_of(shapes, hints);
  quantizer.znorm = hints.znorm.value_or(false);
  if (const auto shared = shared_phis(shapes)) {
    quantizer.share_quant_resi = *shared;
    quantizer.quant_resi = hints.quant_resi.value_or(quantizer.quant_resi);
    if (quantizer.quant_resi == 0)
      throw usage({"--quant-resi", "is 0, but " + where + " has phi's convolutions", {}, {}});
  } else {
    quantizer.quant_resi = 0;
  }
  options.channels = shapes.size("encoder.conv_in.weight", 4, 1);
  options.ch = shapes.size("encoder.conv_in.weight", 4, 0);
  options.ch_mult = level_widths(shapes, options.ch);
  options.res_blocks = shapes.children("encoder.down.0.block.");
  const int64_t decoder_blocks = shapes.children("decoder.up.0.block.");
  options.decoder_res_blocks = decoder_blocks == options.res_blocks + 1 ? 0 : decoder_blocks;
  options.attention = shapes.has("encoder.mid.attn_1.norm.weight");
  options.norm_groups = hints.norm_groups.value_or(options.norm_groups);
  check_hints(options, hints, where);
  try {
    check_together(options);
  } catch (const Error& error) {
    // Widths that 32 groups do not divide are the commonest reason, and the file does not say the number.
    throw failure({.where = where,
                   .what = error.what(),
                   .expected = "--norm-groups, --sides … where the file is not as published",
                   .got = {}});
  }
  return options;
}

void check_hints(const TokenizerOptions& options, const TokenizerHints& hints, const std::string& where) {
  const auto& quantizer = options.quantizer;
  if (hints.sides) check_hint<std::string>("--sides", text_of(*hints.sides), text_of(quantizer.sides), where);
  check_hint("--znorm", hints.znorm, quantizer.znorm, where);
  check_hint("--norm-groups", hints.norm_groups, options.norm_groups, where);
  // Its sign does not matter.
  if (hints.quant_resi) {
    check_hint<double>("--quant-resi", std::abs(*hints.quant_resi), std::abs(quantizer.quant_resi), where);
  }
}

}  // namespace nextscale
