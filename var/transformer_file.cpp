#include <limits>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/weight_shapes.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/var/transformer.h"
#include "nextscale/var/transformer_from_weights.h"

namespace nextscale {
namespace {

constexpr auto kFormat = "nextscale.transformer";
constexpr auto kMask = "attn_bias_for_masking";
constexpr auto kTrainerPart = "trainer/var_wo_ddp";  // in a checkpoint of the reference's trainer

// What the constructor makes from the options alone; other tools' files may leave it out.
bool follows_from_options(const std::string& name) { return name == "lvl_1L" || name.ends_with("zero_k_bias"); }

TransformerOptions options_of(const WeightsFile& file, const std::string& where) {
  const auto config = file.metadata.find("config");
  if (config == file.metadata.end()) throw failure({.where = where, .what = "has no config in its metadata"});
  TransformerOptions options;
  try {
    options_from_json(options, parse_json(config->second, where + ": config"), where);
    check_together(options);
  } catch (const Error& e) {  // a file's fault, not the command line's
    if (e.code() == ExitCode::failure) throw;
    throw failure({.where = where, .what = e.what()});
  }
  return options;
}

/// Said before the first of a thousand wrong shapes is.
void check_size(const TransformerOptions& options, const NamedTensors& weights, const std::string& where) {
  const WeightShapes shapes(weights, where);
  if (!shapes.has("word_embed.weight")) return;
  const int64_t depth = shapes.children("blocks."), width = shapes.size("word_embed.weight", 2, 0);
  if (depth == options.depth && width == options.width) return;
  throw failure({where, "is a transformer of another size", transformer_size_text(options.depth, options.width),
                 transformer_size_text(depth, width)});
}

}  // namespace

void load_transformer_weights(Transformer& transformer, NamedTensors weights, const std::string& where,
                              const std::function<void(const at::Tensor&)>& copied) {
  check_size(transformer->options(), weights, where);
  std::erase_if(weights, [](const auto& entry) { return entry.first == kMask; });
  for (const auto& [name, own] : state_dict(*transformer)) {
    if (!follows_from_options(name)) continue;
    const auto given = find_tensor(weights, name);
    if (!given.defined()) {
      weights.emplace_back(name, own);
    } else if (given.sizes() == own.sizes() && !at::equal(given.to(own.device(), own.scalar_type()), own)) {
      throw failure({.where = where + ": " + name,
                     .what = "is not what the config says",
                     .expected = "the values for scales " + transformer->scales().text(),
                     .got = "others"});
    }
  }
  load_state_dict(*transformer, weights, where, copied);
}

NamedTensors reference_state_dict(const Transformer& transformer) {
  NamedTensors all;
  for (const auto& [name, tensor] : state_dict(*transformer)) {
    all.emplace_back(name, tensor);
    if (name != "lvl_1L") continue;
    const auto plan = plan_attention(transformer->scales(), transformer->scales().count(), AttentionPath::dense,
                                     tensor.options().dtype(at::kFloat));
    const int64_t length = transformer->scales().length();
    const auto& mask = plan.pieces.front().mask;
    all.emplace_back(kMask, (mask.defined() ? mask : at::zeros({length, length}, tensor.options().dtype(at::kFloat)))
                                .view({1, 1, length, length}));
  }
  return all;
}

Transformer load_transformer(const std::filesystem::path& file_or_run, bool raw, const TransformerHints& hints) {
  const auto path = resolve_weights_path(file_or_run, raw);
  const auto where = path.string();
  auto file = read_weights(path);
  TransformerOptions options;
  if (file.metadata.count("format") > 0) {
    expect_format(file, kFormat, where);
    options = options_of(file, where);
    check_hints(options, hints, where);
  } else {
    if (auto part = section(file.tensors, kTrainerPart); !part.empty()) file.tensors = std::move(part);
    options = transformer_options_from(file.tensors, hints, where);
  }
  Transformer transformer(options);
  load_transformer_weights(transformer, std::move(file.tensors), where,
                           [&](const auto& tensor) { file.forget(tensor); });
  transformer->eval();
  return transformer;
}

void save_transformer(const std::filesystem::path& path, const Transformer& transformer, const NamedTensors& weights,
                      const std::map<std::string, std::string>& metadata, FileOperations& operations) {
  WeightsFile file{.tensors = weights.empty() ? state_dict(*transformer) : weights, .metadata = metadata};
  file.metadata["format"] = kFormat;
  file.metadata["config"] = options_to_json(transformer->options()).dump();
  write_weights(path, file, operations);
}

}  // namespace nextscale
