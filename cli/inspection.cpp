#include "nextscale/cli/inspection.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/var/transformer_from_weights.h"
#include "nextscale/vqvae/tokenizer_from_weights.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kOurs = "nextscale.";

/// As NumPy and PyTorch name them.
std::string dtype_word(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "float64";
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kLong:
      return "int64";
    case at::kInt:
      return "int32";
    case at::kShort:
      return "int16";
    case at::kChar:
      return "int8";
    case at::kByte:
      return "uint8";
    case at::kBool:
      return "bool";
    default:
      return at::toString(type);  // "UInt16"
  }
}

Json describe_tensors(const NamedTensors& tensors) {
  Json list = Json::array();
  for (const auto& [name, tensor] : tensors) {
    list.push_back({{"name", name}, {"dtype", dtype_word(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}});
  }
  return list;
}

int64_t count_parameters(const NamedTensors& tensors) {
  int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += tensor.is_floating_point() ? tensor.numel() : 0;
  return count;
}

std::vector<std::string> not_finite(const NamedTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_floating_point() && !at::isfinite(tensor).all().item<bool>()) names.push_back(name);
  }
  return names;
}

/// Structure of the format, and what the room that writes this kind of file says about it.
WeightsFile read_and_check(const fs::path& path) {
  auto file = read_weights(path);
  if (file.tensors.empty()) throw failure({.where = path.string(), .what = "holds no tensor"});
  const auto format = file.metadata.find("format");
  if (format != file.metadata.end() && format->second == "nextscale.tokens") read_token_cache(path);
  return file;
}

/// The text as JSON; files of others may hold any text, which stays one.
Json metadata_value(const std::string& text, bool ours, const std::string& where) {
  try {
    return Json::parse(parse_json(text, where).dump());
  } catch (const Error&) {
    if (ours) throw;
    return text;
  }
}

/// Files of the reference: what they hold and the config that follows from names and shapes. Any other file stays
/// "weights".
void describe_reference_layout(const WeightsFile& file, const std::string& where, Json& out) {
  const auto config_of = [](const auto& options) { return Json::parse(options_to_json(options).dump()); };
  const auto trainer = section(file.tensors, "trainer/var_wo_ddp");
  const auto& tensors = trainer.empty() ? file.tensors : trainer;
  try {
    if (find_tensor(tensors, "word_embed.weight").defined()) {
      out["config"] = config_of(transformer_options_from(tensors, {}, where));
      out["kind"] = trainer.empty() ? "transformer" : "trainer checkpoint";
    } else if (find_tensor(tensors, "quantize.embedding.weight").defined()) {
      auto options = tokenizer_options_from(tensors, {}, where);
      out["config"] = Json::parse(to_json(bind_tokenizer_options(options)).dump());
      out["kind"] = "tokenizer";
    }
  } catch (const Error&) {
    // Readable weights that are no such model after all.
  }
}

void describe_weights(const WeightsFile& file, const fs::path& path, Json& out) {
  std::string format;
  Json metadata = Json::object();
  out["config"] = nullptr;
  for (const auto& [key, text] : file.metadata) {
    if (key == "format") format = text;
  }
  const bool ours = format.rfind(kOurs, 0) == 0;
  for (const auto& [key, text] : file.metadata) {
    if (key == "config") {
      out["config"] = metadata_value(text, ours, path.string() + ": config");
    } else {
      metadata[key] = text;
    }
  }
  out["kind"] = ours ? format.substr(kOurs.size()) : "weights";
  if (!ours) describe_reference_layout(file, path.string(), out);
  out["parameters"] = count_parameters(file.tensors);
  out["not_finite"] = not_finite(file.tensors);
  out["metadata"] = std::move(metadata);
  out["tensors"] = describe_tensors(file.tensors);
}

/// All files of a checkpoint are read, the described one excepted, which was.
void describe_checkpoint(const fs::path& folder, const fs::path& described, Json& out) {
  Json files = Json::array();
  uint64_t total = 0;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    if (!fs::is_regular_file(path)) continue;
    if (path.extension() == ".safetensors" && path != described) read_and_check(path);
    total += fs::file_size(path);
    files.push_back({{"name", path.filename().string()}, {"bytes", fs::file_size(path)}});
  }
  out["bytes"] = total;
  out["files"] = std::move(files);

  if (const auto step = step_of_checkpoint(folder)) out["step"] = *step;
  const auto state_file = folder / "state.json";
  if (!fs::exists(state_file)) return;
  const auto state = read_json_file(state_file);
  if (!state.is_object()) throw failure({state_file.string(), "damaged", "an object", state.type_name()});
  for (const char* key : {"step", "steps"}) {
    if (state.contains(key) && state[key].is_number_integer()) out[key] = state[key].get<int64_t>();
  }
}

void describe_run(const fs::path& run, Json& out) {
  out["finished"] = fs::exists(run / "finished.json");
  out["checkpoints"] = Json::array();
  for (const auto& checkpoint : list_checkpoints(run / "checkpoints")) out["checkpoints"].push_back(checkpoint.step);
  out["snapshots"] = Json::array();
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "snapshots", ignored)) {
    out["snapshots"].push_back(entry.path().filename().string());
  }
  std::sort(out["snapshots"].begin(), out["snapshots"].end());
  out["run"] = nullptr;
  if (fs::exists(run / "config.json")) out["run"] = Json::parse(read_json_file(run / "config.json").dump());
}

}  // namespace

Json inspect_path(const fs::path& file_or_run, bool raw) {
  const auto path = resolve_weights_path(file_or_run, raw);
  const bool folder = fs::is_directory(file_or_run);
  const bool run = folder && fs::is_directory(file_or_run / "checkpoints");
  Json out;
  // named here first, so that they stand in this order
  out["kind"] = nullptr;
  out["source"] = run ? "run" : folder ? "checkpoint" : "file";
  out["path"] = file_or_run.string();
  out["file"] = path.string();
  const auto name = path.filename().string();
  out["weights"] = nullptr;
  if (folder) out["weights"] = name == "ema.safetensors" ? "ema" : "raw";
  for (const char* key : {"step", "steps", "finished"}) out[key] = nullptr;
  for (const char* key : {"parameters", "bytes", "files", "not_finite", "config", "metadata"}) out[key] = nullptr;

  const auto file = read_and_check(path);
  describe_weights(file, path, out);
  out["bytes"] = fs::file_size(path);
  out["files"] = Json::array({{{"name", name}, {"bytes", fs::file_size(path)}}});
  if (folder) {
    describe_checkpoint(path.parent_path(), path, out);
  } else if (const auto step = step_of_checkpoint(path.parent_path())) {
    out["step"] = *step;
    out["weights"] = name == "ema.safetensors" ? "ema" : "raw";
  }
  if (run) describe_run(file_or_run, out);
  return out;
}

}  // namespace nextscale::cli
