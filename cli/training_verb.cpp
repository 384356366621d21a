#include "nextscale/cli/training_verb.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/json_file.h"

namespace nextscale::cli {
namespace {

/// What the run in this folder computes in; empty where there is none.
std::string dtype_of_run(const std::filesystem::path& run) {
  const auto file = run / "config.json";
  if (run.empty() || !std::filesystem::exists(file)) return "";
  const auto stored = read_json_file(file);
  const auto path = nlohmann::json::json_pointer("/config/dtype");
  return stored.contains(path) && stored.at(path).is_string() ? stored.at(path).get<std::string>() : "";
}

}  // namespace

std::vector<BoundOption> without(std::vector<BoundOption> options, std::initializer_list<std::string_view> names) {
  std::erase_if(options,
                [&](const BoundOption& o) { return std::find(names.begin(), names.end(), o.name) != names.end(); });
  return options;
}

int64_t schedule_steps(const CommandLine& line, const LoopOptions& loop, int64_t pictures) {
  line.exclusive({"epochs", "steps"});
  const bool by_epochs = line.given("epochs") || (loop.steps == 0 && !line.given("steps"));
  if (by_epochs && loop.epochs > 0) {
    // An epoch has as many steps as there are whole batches.
    const int64_t per_epoch = std::max<int64_t>(1, pictures / loop.batch);
    return std::max<int64_t>(1, std::llround(loop.epochs * static_cast<double>(per_epoch)));
  }
  if (!by_epochs && loop.steps > 0) return loop.steps;
  throw usage({.where = by_epochs ? "--epochs" : "--steps",
               .what = "no length of training given (see --help)",
               .expected = "--epochs or --steps above 0"});
}

std::string command_text(const std::string& verb, const Words& words) {
  std::string text = "nextscale " + verb;
  for (const auto& word : words) {
    const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$*?;&|<>(){}[]#~!`") == std::string::npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += plain ? " " + word : " '" + quoted + "'";
  }
  return text;
}

nlohmann::json call_config(const RuntimeOptions& runtime, const LoopOptions& loop, const DataOptions& data) {
  return {{"data", data.data},
          {"class_index", data.class_index},
          {"workers", data.workers},
          {"device", runtime.device},
          {"threads", runtime.threads},
          {"max_steps", loop.max_steps},
          {"max_minutes", loop.max_minutes},
          {"save_every", loop.save_every},
          {"keep", loop.keep},
          {"validate_every", loop.validate_every}};
}

nlohmann::json data_config(const DataOptions& options, const DataParts& parts) {
  nlohmann::json data = options_to_json(options);
  for (const char* key : {"data", "class_index", "workers"}) data.erase(key);
  data["fingerprint"] = parts.fingerprint;
  data["class_names"] = parts.class_names;
  return data;
}

Arithmetic choose_arithmetic(const RuntimeOptions& runtime, const c10::Device& device, const std::string& run) {
  if (runtime.dtype != "auto") return {resolve_dtype(runtime.dtype, device), runtime.dtype + " (asked for)"};
  if (const auto begun = dtype_of_run(run); !begun.empty()) {
    return {resolve_dtype(begun, device), begun + ": as this run was begun"};
  }
  const auto dtype = resolve_dtype("auto", device);
  const auto name = dtype_text(dtype);
  if (device.is_cuda()) return {dtype, name + ": the GPU is fast at it"};
  const double speedup = bfloat16_speedup();
  if (speedup == 0) return {dtype, name + ": this processor has neither avx512_bf16 nor amx_bf16"};
  return {dtype, fmt::format("{}: bfloat16 is {:.1f} times as fast as float32 here", name, speedup)};
}

void warn(const std::string& text) {
  std::fprintf(stderr, "%snextscale: warning: %s\n", isatty(fileno(stderr)) != 0 ? "\r\033[K" : "", text.c_str());
}

void note(const RuntimeOptions& runtime, const std::string& text) {
  if (!runtime.quiet) std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace nextscale::cli
