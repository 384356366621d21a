#include <limits>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/weights.h"
#include "nextscale/var/transformer.h"

namespace nextscale {
namespace {

constexpr auto kFormat = "nextscale.transformer";
constexpr auto kMask = "attn_bias_for_masking";

// What the constructor makes from the options alone; other tools' files may leave it out.
bool follows_from_options(const std::string& name) { return name == "lvl_1L" || name.ends_with("zero_k_bias"); }

TransformerOptions options_of(const WeightsFile& file, const std::string& where) {
  const auto config = file.metadata.find("config");
  if (config == file.metadata.end()) throw failure({.where = where, .what = "has no config in its metadata"});
  TransformerOptions options;
  try {
    options_from_json(options, nlohmann::json::parse(config->second), where);
    check_together(options);
  } catch (const nlohmann::json::exception&) {
    throw failure({.where = where, .what = "the config in its metadata is not JSON"});
  } catch (const Error& e) {  // a file's fault, not the command line's
    if (e.code() == ExitCode::failure) throw;
    throw failure({.where = where, .what = e.what()});
  }
  return options;
}

}  // namespace

void load_transformer_weights(Transformer& transformer, NamedTensors weights, const std::string& where) {
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
  load_state_dict(*transformer, weights, where);
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

Transformer load_transformer(const std::filesystem::path& file_or_run, bool raw) {
  const auto path = resolve_weights_path(file_or_run, raw);
  const auto file = read_weights(path);
  expect_format(file, kFormat, path.string());
  Transformer transformer(options_of(file, path.string()));
  load_transformer_weights(transformer, file.tensors, path.string());
  transformer->eval();
  return transformer;
}

void save_transformer(const std::filesystem::path& path, const Transformer& transformer, const NamedTensors& weights,
                      const std::map<std::string, std::string>& metadata) {
  WeightsFile file{.tensors = weights.empty() ? state_dict(*transformer) : weights, .metadata = metadata};
  file.metadata["format"] = kFormat;
  file.metadata["config"] = options_to_json(transformer->options()).dump();
  write_weights(path, file);
}

}  // namespace nextscale
