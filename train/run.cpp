#include "nextscale/train/run.h"

#include <cerrno>
#include <ctime>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/atomic_file.h"
#include "nextscale/io/json_file.h"
#include "nextscale/train/metrics_log.h"

namespace nextscale {
namespace {

std::string local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code || !std::filesystem::is_directory(folder, code)) {
    throw failure(
        {.where = folder.string(), .what = "no folder can be made here", .got = code ? code.message() : "a file"});
  }
}

std::filesystem::path with_folder(std::filesystem::path directory) {
  make_folder(directory);
  return directory;
}

nlohmann::json read_object(const std::filesystem::path& path) {
  const auto text = read_text(path);
  nlohmann::json json;
  try {
    json = parse_json(text, path.string());
  } catch (const Error& error) {
    throw failure({.where = path.string(), .what = "damaged: " + error.parts().what, .expected = "a JSON object"});
  }
  if (!json.is_object()) throw failure({.where = path.string(), .what = "damaged", .expected = "a JSON object"});
  return json;
}

std::string value_text(const nlohmann::json* value) { return value == nullptr ? "nothing" : value->dump(); }

const nlohmann::json* member(const nlohmann::json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

/// Throws at the first key, in alphabetical order, whose values differ; objects are compared key by key.
void require_equal(const nlohmann::json& stored, const nlohmann::json& given, const std::set<std::string>& free_keys,
                   const std::string& prefix, const std::filesystem::path& file) {
  std::set<std::string> keys;
  for (const auto& item : stored.items()) keys.insert(item.key());
  for (const auto& item : given.items()) keys.insert(item.key());
  for (const auto& key : keys) {
    if (free_keys.count(key) > 0) continue;
    const auto* before = member(stored, key);
    const auto* now = member(given, key);
    if (before != nullptr && now != nullptr && before->is_object() && now->is_object()) {
      require_equal(*before, *now, {}, prefix + key + ".", file);
    } else if (before == nullptr || now == nullptr || *before != *now) {
      throw failure({.where = file.string() + ": " + prefix + key,
                     .what = "this run was begun with another value",
                     .expected = value_text(before),
                     .got = value_text(now)});
    }
  }
}

/// Appends "key: before -> now" for each value that differs, objects key by key.
void list_changes(const nlohmann::json& before, const nlohmann::json& now, const std::string& key,
                  std::vector<std::string>& changes) {
  if (before.is_object() && now.is_object()) {
    for (const auto& [name, value] : now.items())
      list_changes(before.value(name, nlohmann::json()), value, name, changes);
  } else if (before != now) {
    changes.push_back(key + ": " + before.dump() + " -> " + now.dump());
  }
}

/// @returns what differs and is taken over
std::vector<std::string> store_or_compare(const std::filesystem::path& file, const std::string& kind,
                                          const nlohmann::json& config, const std::vector<std::string>& free_keys,
                                          FileOperations& operations) {
  if (!std::filesystem::exists(file)) {
    const nlohmann::json stored = {{"kind", kind}, {"config", config}, {"versions", versions_text()}};
    write_text_atomically(file, stored.dump(2) + "\n", operations);
    return {};
  }
  auto stored = read_object(file);
  const auto* stored_kind = member(stored, "kind");
  const auto* stored_config = member(stored, "config");
  if (stored_kind == nullptr || !stored_kind->is_string() || stored_config == nullptr || !stored_config->is_object()) {
    throw failure({.where = file.string(), .what = "damaged", .expected = "kind and config"});
  }
  if (*stored_kind != kind) {
    throw failure({.where = file.parent_path().string(),
                   .what = "holds a run of another kind",
                   .expected = kind,
                   .got = stored_kind->get<std::string>()});
  }
  require_equal(*stored_config, config, {free_keys.begin(), free_keys.end()}, "", file);
  std::vector<std::string> changes;
  for (const auto& key : free_keys) {
    if (!config.contains(key)) continue;
    auto& before = stored["config"][key];
    list_changes(before, config.at(key), key, changes);
    before = config.at(key);
  }
  if (!changes.empty()) write_text_atomically(file, stored.dump(2) + "\n", operations);
  return changes;
}

/// What killed calls left beside their places, files (.NAME.PID.part) and checkpoints (.step_N.part); the lock says
/// that no other call is at work here.
void remove_leftovers(const std::filesystem::path& folder, FileOperations& operations) {
  std::vector<std::filesystem::path> leftovers;
  std::error_code code;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const auto name = it->path().filename().string();
    if (name.starts_with('.') && name.ends_with(".part")) leftovers.push_back(it->path());
  }
  if (code) throw system_failure(folder, "cannot be listed", code.value());
  for (const auto& path : leftovers) {
    if (operations.remove_all(path) != 0) throw system_failure(path, "cannot be removed", errno);
  }
}

}  // namespace

Run::Run(std::filesystem::path directory, const std::string& kind, const nlohmann::json& config,
         const std::vector<std::string>& free_keys, const std::string& command, FileOperations& operations)
    : directory_(with_folder(std::move(directory))), kind_(kind), operations_(operations), lock_(directory_) {
  taken_over_ = store_or_compare(directory_ / "config.json", kind, config, free_keys, operations_);
  for (const auto& folder : {checkpoints(), pictures(), snapshots()}) make_folder(folder);
  for (const auto& folder : {directory_, checkpoints(), pictures(), snapshots()}) remove_leftovers(folder, operations_);
  append_line(directory_ / "command.txt", command, operations_);
}

Run::~Run() = default;

void Run::log_metrics(const nlohmann::json& line) { append_line(metrics(), line.dump(), operations_); }

void Run::log_text(const std::string& line) {
  append_line(directory_ / "log.txt", local_time() + "  " + line, operations_);
}

bool Run::finished() const { return std::filesystem::exists(directory_ / "finished.json"); }

void Run::mark_finished(const nlohmann::json& result) {
  nlohmann::json stored = result;
  stored["time"] = local_time();
  write_text_atomically(directory_ / "finished.json", stored.dump(2) + "\n", operations_);
}

std::optional<nlohmann::json> Run::result() const {
  if (!finished()) return std::nullopt;
  return read_object(directory_ / "finished.json");
}

}  // namespace nextscale
