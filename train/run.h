#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/io/checkpoint.h"

namespace nextscale {

/// A run's directory: config.json (everything that decides the result), command.txt (exact command lines, appended),
/// log.txt, metrics.jsonl (append only), pictures/, checkpoints/, snapshots/, lock. One process at a time.
class Run {
 public:
  /// Makes or opens the directory and locks it. @throws Error failure if another process holds it (names pid and host), or
  /// the directory holds a run of another kind, or its stored config differs from `config` in a key that decides the result
  /// (names key, stored and given value).
  /// @param kind "tokenizer", "transformer", "classifier"
  /// @param free_keys top-level config keys that may differ between calls (threads, max_steps, save_every …)
  Run(std::filesystem::path directory, const std::string& kind, const nlohmann::json& config,
      const std::vector<std::string>& free_keys, const std::string& command);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path checkpoints() const { return directory_ / "checkpoints"; }
  std::filesystem::path pictures() const { return directory_ / "pictures"; }
  std::filesystem::path snapshots() const { return directory_ / "snapshots"; }

  /// One line of JSON, flushed. After a resume, lines of steps at or after `step` that the lost part wrote stay; readers take
  /// the last line of a step.
  void log_metrics(const nlohmann::json& line);
  void log_text(const std::string& line);

  /// Set when a run has reached the end of its schedule (finished.json with step, time, metrics).
  bool finished() const;
  void mark_finished(const nlohmann::json& result);
  std::optional<nlohmann::json> result() const;

 private:
  std::filesystem::path directory_;
  int lock_ = -1;
};

}  // namespace nextscale
