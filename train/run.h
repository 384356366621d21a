#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "nextscale/io/checkpoint.h"
#include "nextscale/train/run_lock.h"

namespace nextscale {

/// A run's directory: config.json (everything that decides the result), command.txt (exact command lines, appended),
/// log.txt, metrics.jsonl (append only), pictures/, checkpoints/, snapshots/, lock. One process at a time.
/// config.json is {"kind": …, "config": {…}, "versions": …} as of the first call; what may differ, of the last.
class Run {
 public:
  /// Makes or opens the directory, locks it and removes what killed calls left half written. @throws Error failure if
  /// another process holds it (names pid and host), the directory cannot be written or holds a run of another kind, or
  /// its stored config differs from `config` in a key that decides the result (names key, stored and given value).
  /// @param kind "tokenizer", "transformer", "classifier"
  /// @param free_keys top-level config keys that may differ between calls (threads, max_steps, save_every …)
  Run(std::filesystem::path directory, const std::string& kind, const nlohmann::json& config,
      const std::vector<std::string>& free_keys, const std::string& command,
      FileOperations& operations = system_files());
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  const std::filesystem::path& directory() const { return directory_; }
  const std::string& kind() const { return kind_; }
  /// What this call says otherwise than the one before in keys that may differ, as "save_every: 100 -> 50".
  const std::vector<std::string>& taken_over() const { return taken_over_; }
  FileOperations& files() const { return operations_; }  ///< by which everything in the directory is written
  std::filesystem::path checkpoints() const { return directory_ / "checkpoints"; }
  std::filesystem::path pictures() const { return directory_ / "pictures"; }
  std::filesystem::path snapshots() const { return directory_ / "snapshots"; }
  std::filesystem::path metrics() const { return directory_ / "metrics.jsonl"; }

  /// One line of JSON, flushed. After a resume, lines of steps at or after `step` that the lost part wrote stay;
  /// readers take the last line of a step (train/metrics_log.h, read_metrics). @throws Error failure, e.g. when the
  /// disk is full
  void log_metrics(const nlohmann::json& line);
  /// One line of log.txt with the local time before it.
  void log_text(const std::string& line);

  /// Set when a run has reached the end of its schedule (finished.json with step, time, metrics); run_loop does it.
  bool finished() const;
  /// Writes finished.json, complete or not there; a later call replaces it.
  void mark_finished(const nlohmann::json& result);
  /// What mark_finished was given, with "time". @throws Error failure if the file is damaged
  std::optional<nlohmann::json> result() const;

 private:
  std::filesystem::path directory_;
  std::string kind_;
  FileOperations& operations_;
  RunLock lock_;
  std::vector<std::string> taken_over_;
};

}  // namespace nextscale
