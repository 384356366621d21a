#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/io/file_operations.h"

namespace nextscale {

/// A checkpoint is a folder `checkpoints/step_00012000/`; it is complete or it is not there. Written beside its place
/// as `.step_00012000.part/`, every file and folder fsynced, renamed; `latest` names the newest (written atomically).
class CheckpointWriter {
 public:
  /// Makes `checkpoints` where it is missing and removes what an earlier, killed writer left (`.step_*.part`).
  CheckpointWriter(std::filesystem::path checkpoints, int64_t step, FileOperations& operations = system_files());
  /// Removes the unfinished folder unless committed.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Where to write `name` (model.safetensors, ema.safetensors, optimizer.safetensors, state.json …).
  std::filesystem::path file(const std::string& name) const;
  /// By which to write it.
  FileOperations& operations() const { return operations_; }
  /// Makes it visible; an older checkpoint of the same step is replaced in one step.
  /// @throws Error failure if anything could not be written to disk
  void commit();

 private:
  void put_in_place();
  std::filesystem::path checkpoints_, part_, final_;
  FileOperations& operations_;
  bool committed_ = false;
};

struct CheckpointFolder {
  int64_t step;
  std::filesystem::path path;
};

/// "…/step_00012000" -> 12000; nothing for a folder of another name.
std::optional<int64_t> step_of_checkpoint(const std::filesystem::path& folder);
/// Complete checkpoints, oldest first. Empty if there is no such folder.
std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& checkpoints);
/// The one that `latest` names, or (missing or stale `latest`) the one with the highest step.
std::optional<CheckpointFolder> newest_checkpoint(const std::filesystem::path& checkpoints);
/// Removes all but the newest `keep`; 0 keeps all. Never the one that `latest` names.
void keep_newest_checkpoints(const std::filesystem::path& checkpoints, int64_t keep,
                             FileOperations& operations = system_files());

/// FILE|RUN of the command line → the file to load: a file itself; a run's or checkpoint's folder → ema.safetensors
/// (model.safetensors with `raw`, or where there is no ema) of the newest checkpoint.
/// @throws Error failure naming the path if nothing is there
std::filesystem::path resolve_weights_path(const std::filesystem::path& file_or_run, bool raw = false);

}  // namespace nextscale
