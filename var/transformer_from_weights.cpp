#include "nextscale/var/transformer_from_weights.h"

#include <cmath>

#include <ATen/ops/bincount.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "nextscale/base/error.h"
#include "nextscale/base/scales.h"
#include "nextscale/base/weight_shapes.h"

namespace nextscale {
namespace {

constexpr auto kLevels = "lvl_1L";
constexpr auto kHeadScale = "blocks.0.attn.scale_mul_1H11";
constexpr int64_t kHeadWidth = 64;  // of all published models

/// From the level of each position: 0, 1, 1, 1, 1, 2, …
std::vector<int64_t> sides_from_levels(const at::Tensor& levels, const std::string& where) {
  const auto flat = levels.flatten().to(at::kLong).cpu();
  const auto name = where + ": " + kLevels;
  if (flat.numel() == 0 || flat.min().item<int64_t>() < 0 || flat.max().item<int64_t>() >= flat.numel() ||
      (flat.numel() > 1 && flat.diff().min().item<int64_t>() < 0)) {
    throw failure({name, "holds no levels", "numbers of scales from 0, growing", {}});
  }
  const auto counts = at::bincount(flat);
  std::vector<int64_t> sides;
  for (int64_t k = 0; k < counts.size(0); ++k) {
    const auto area = counts[k].item<int64_t>();
    const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(area))));
    if (side < 1 || side * side != area) {
      throw failure(
          {name, fmt::format("scale {} is no square", k), "a square number of positions", std::to_string(area)});
    }
    sides.push_back(side);
  }
  return sides;
}

std::vector<int64_t> sides_of(const WeightShapes& shapes, const TransformerHints& hints) {
  if (shapes.has(kLevels)) return sides_from_levels(shapes.tensor(kLevels), shapes.where());
  if (hints.sides) return *hints.sides;
  const int64_t length = shapes.size("pos_1LC", 3, 1);
  for (const auto& sides : {published_sides_256(), published_sides_512()}) {
    if (Scales(sides).length() == length) return sides;
  }
  throw failure({shapes.where(), "sides of the token maps do not follow from the file", "--sides N,N,…",
                 fmt::format("no {}, {} positions", kLevels, length)});
}

int64_t heads_of(const WeightShapes& shapes, const TransformerHints& hints, int64_t width) {
  if (shapes.has(kHeadScale)) return shapes.size(kHeadScale, 4, 1);
  if (hints.heads) return *hints.heads;
  if (width % kHeadWidth == 0) return width / kHeadWidth;
  throw failure({shapes.where(), "the number of heads does not follow from the file", "--heads N",
                 fmt::format("width {}, which is no multiple of {}", width, kHeadWidth)});
}

template <class Value>
void check_hint(const char* option, const std::optional<Value>& hint, const Value& value, const std::string& where) {
  if (!hint || *hint == value) return;
  throw usage({option, "is not what " + where + " says", fmt::format("{}", value), fmt::format("{}", *hint)});
}

}  // namespace

std::string transformer_size_text(int64_t depth, int64_t width) {
  const auto name = width == depth * kHeadWidth ? fmt::format("d{} ", depth) : std::string();
  return fmt::format("{}(depth {}, width {})", name, depth, width);
}

TransformerOptions transformer_options_from(const NamedTensors& weights, const TransformerHints& hints,
                                            const std::string& where) {
  const WeightShapes shapes(weights, where);
  if (!shapes.has("word_embed.weight") || !shapes.has("head.weight")) {
    throw failure({where, "is no transformer", "entries word_embed.weight, head.weight …",
                   shapes.has("quantize.embedding.weight") ? "those of a tokenizer" : shapes.examples()});
  }
  TransformerOptions options;
  options.width = shapes.size("word_embed.weight", 2, 0);
  options.code_width = shapes.size("word_embed.weight", 2, 1);
  options.codes = shapes.size("head.weight", 2, 0);
  options.classes = shapes.size("class_emb.weight", 2, 0) - 1;
  options.depth = shapes.children("blocks.");
  options.shared_aln = shapes.has("shared_ada_lin.1.weight");
  options.attn_l2_norm = shapes.has(kHeadScale);
  options.heads = heads_of(shapes, hints, options.width);
  options.mlp_ratio = static_cast<double>(shapes.size("blocks.0.ffn.fc1.weight", 2, 0)) /
                      static_cast<double>(std::max<int64_t>(options.width, 1));
  options.norm_eps = hints.norm_eps.value_or(options.norm_eps);
  options.sides = sides_of(shapes, hints);
  check_hints(options, hints, where);
  try {
    check_together(options);
  } catch (const Error& error) {
    if (hints.heads || hints.sides) throw;
    throw failure({.where = where, .what = error.what()});
  }
  return options;
}

void check_hints(const TransformerOptions& options, const TransformerHints& hints, const std::string& where) {
  const auto text = [](const std::vector<int64_t>& sides) { return fmt::format("{}", fmt::join(sides, ",")); };
  if (hints.sides) {
    check_hint<std::string>("--sides", text(*hints.sides), text(options.sides), where);
  }
  check_hint("--heads", hints.heads, options.heads, where);
  check_hint("--norm-eps", hints.norm_eps, options.norm_eps, where);
}

}  // namespace nextscale
