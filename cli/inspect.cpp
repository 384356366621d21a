#include <algorithm>
#include <cstdio>
#include <string>

#include <fmt/format.h>

#include "nextscale/base/command_line.h"
#include "nextscale/cli/inspection.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/io/bytes.h"

namespace nextscale::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  bool json = false;
  bool raw = false;

  static constexpr auto table() {
    using O = InspectOptions;
    return std::tuple{
        option("json", &O::json, "one JSON object on stdout instead of text"),
        option("raw", &O::raw, "of runs and checkpoints the weights as trained, not their running average"),
    };
  }
};

/// "1234567" -> "1,234,567"
std::string grouped(int64_t number) {
  auto digits = std::to_string(number);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

/// Names and texts of a file may hold bytes that are no UTF-8 and signs that move a terminal's cursor.
std::string printable(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return out;
}

std::string value_text(const Json& value) {
  return printable(value.is_string() ? value.get<std::string>()
                                     : value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string headline(const Json& found) {
  auto text = fmt::format("{}: {}", printable(found["path"]), printable(found["kind"]));
  if (found["source"] != "file") text += fmt::format(", a {}", found["source"].get<std::string>());
  if (!found["step"].is_null()) {
    text += fmt::format(", step {}", found["step"].get<int64_t>());
    if (!found["steps"].is_null()) text += fmt::format(" of {}", found["steps"].get<int64_t>());
  }
  if (!found["weights"].is_null()) text += found["weights"] == "ema" ? ", EMA weights" : ", raw weights";
  if (!found["finished"].is_null()) text += found["finished"].get<bool>() ? ", finished" : ", not finished";
  return text;
}

std::string sizes_text(const Json& found) {
  auto text = bytes_text(found["bytes"].get<uint64_t>());
  if (found["files"].size() < 2) return text;
  std::string parts;
  for (const auto& file : found["files"]) {
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", printable(file["name"]),
                         bytes_text(file["bytes"].get<uint64_t>()));
  }
  return text + " (" + parts + ")";
}

std::string object_text(const std::string& title, const Json& object) {
  if (!object.is_object() || object.empty()) return "";
  size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  std::string text = title + "\n";
  for (const auto& [key, value] : object.items())
    text += fmt::format("  {:<{}}  {}\n", printable(key), width, value_text(value));
  return text;
}

std::string tensors_text(const Json& tensors) {
  size_t width = 0;
  for (const auto& tensor : tensors) width = std::max(width, tensor["name"].get_ref<const std::string&>().size());
  std::string text = fmt::format("tensors ({})\n", tensors.size());
  for (const auto& tensor : tensors) {
    text += fmt::format("  {:<{}}  {:<8}  {}\n", printable(tensor["name"]), width, tensor["dtype"].get<std::string>(),
                        shape_text(tensor["shape"].get<std::vector<int64_t>>()));
  }
  return text;
}

std::string report(const Json& found) {
  auto text = headline(found) + "\n";
  if (found["file"] != found["path"]) text += fmt::format("file        {}\n", printable(found["file"]));
  text += fmt::format("parameters  {}\n", grouped(found["parameters"].get<int64_t>()));
  text += fmt::format("bytes       {}\n", sizes_text(found));
  if (found.contains("checkpoints")) text += fmt::format("checkpoints {}\n", value_text(found["checkpoints"]));
  for (const auto& name : found["not_finite"]) text += fmt::format("NaN or infinity in {}\n", printable(name));
  if (found["config"].is_string()) text += fmt::format("config      {}\n", value_text(found["config"]));
  text += object_text("config", found["config"]);
  text += object_text("metadata", found["metadata"]);
  return text + tensors_text(found["tensors"]);
}

}  // namespace

ExitCode inspect(const Words& words) {
  InspectOptions options;
  CommandLine line(
      "nextscale inspect FILE|RUN [--json]",
      "Says what a file of weights, a token cache, a checkpoint or a run holds. Every tensor in it is read.");
  line.add("inspect", bind_options(options));
  line.allow_positional("FILE|RUN",
                        "a safetensors file, a run's folder (its newest checkpoint) or a checkpoint's folder");
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  line.apply();
  if (line.positional().size() != 1) {
    throw usage({.where = "inspect",
                 .what = "takes one FILE|RUN (see nextscale inspect --help)",
                 .got = fmt::format("{}", line.positional().size())});
  }
  const auto found = inspect_path(line.positional()[0], options.raw);
  const auto text = options.json ? found.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : report(found);
  std::fputs(text.c_str(), stdout);
  return ExitCode::done;
}

}  // namespace nextscale::cli
