#include "nextscale/io/checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/atomic_file.h"

namespace nextscale {
namespace fs = std::filesystem;
namespace {

constexpr const char* kLatest = "latest";

/// "step_00012000" -> 12000
std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step_";
  if (name.rfind(kPrefix, 0) != 0) return {};
  int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (parsed.ec != std::errc() || parsed.ptr != end || step < 0) return {};
  return step;
}

bool is_unfinished(const std::string& name) {
  return name.rfind(".step_", 0) == 0 && name.size() > 5 && name.compare(name.size() - 5, 5, ".part") == 0;
}

std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    paths.push_back(it->path());
  if (error && error != std::errc::no_such_file_or_directory) {
    throw system_failure(folder, "cannot be listed", error.value());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::optional<CheckpointFolder> named_by_latest(const fs::path& checkpoints) {
  std::error_code ignored;
  if (!fs::is_regular_file(checkpoints / kLatest, ignored)) return {};
  auto name = read_text(checkpoints / kLatest);
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) name.pop_back();
  const auto step = step_of(name);
  if (!step || !fs::is_directory(checkpoints / name, ignored)) return {};
  return CheckpointFolder{*step, checkpoints / name};
}

void make_folders(const fs::path& folder, FileOperations& operations) {
  std::error_code ignored;
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  make_folders(folder.parent_path(), operations);
  if (operations.make_folder(folder) != 0 && errno != EEXIST) throw system_failure(folder, "cannot be made", errno);
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path checkpoints, int64_t step, FileOperations& operations)
    : checkpoints_(std::move(checkpoints)), operations_(operations) {
  const auto name = fmt::format("step_{:08}", step);
  final_ = checkpoints_ / name;
  part_ = checkpoints_ / ("." + name + ".part");
  make_folders(checkpoints_, operations_);
  for (const auto& path : children(checkpoints_)) {
    if (is_unfinished(path.filename().string()) && operations_.remove_all(path) != 0) {
      throw system_failure(path, "cannot be removed", errno);
    }
  }
  if (operations_.make_folder(part_) != 0) throw system_failure(final_, "cannot be written", errno);
}

CheckpointWriter::~CheckpointWriter() {
  if (!committed_) operations_.remove_all(part_);
}

fs::path CheckpointWriter::file(const std::string& name) const { return part_ / name; }

void CheckpointWriter::commit() {
  for (const auto& path : children(part_)) sync_to_disk(path, operations_);
  sync_to_disk(part_, operations_);
  put_in_place();
  committed_ = true;
  sync_to_disk(checkpoints_, operations_);
  write_text_atomically(checkpoints_ / kLatest, final_.filename().string() + "\n", operations_);
}

void CheckpointWriter::put_in_place() {
  std::error_code ignored;
  if (!fs::exists(final_, ignored)) {
    if (operations_.rename(part_, final_) != 0) throw system_failure(final_, "cannot be put in its place", errno);
    return;
  }
  // A run that goes on from an older checkpoint comes by this step again. The old folder ends up under the new one's
  // former name, where it counts as unfinished.
  const auto old = checkpoints_ / ("." + final_.filename().string() + ".old.part");
  if (operations_.exchange(part_, final_) == 0) {
    operations_.remove_all(part_);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) throw system_failure(final_, "cannot be put in its place", errno);
  // File systems without exchange (some of the network): a gap of two renames, in which older checkpoints are still
  // there.
  if (operations_.rename(final_, old) != 0) throw system_failure(final_, "cannot be replaced", errno);
  if (operations_.rename(part_, final_) != 0) {
    const int code = errno;
    operations_.rename(old, final_);
    throw system_failure(final_, "cannot be put in its place", code);
  }
  operations_.remove_all(old);
}

std::optional<int64_t> step_of_checkpoint(const fs::path& folder) { return step_of(folder.filename().string()); }

std::vector<CheckpointFolder> list_checkpoints(const fs::path& checkpoints) {
  std::vector<CheckpointFolder> found;
  std::error_code ignored;
  for (const auto& path : children(checkpoints)) {
    const auto step = step_of(path.filename().string());
    if (step && fs::is_directory(path, ignored)) found.push_back({*step, path});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::optional<CheckpointFolder> newest_checkpoint(const fs::path& checkpoints) {
  if (auto named = named_by_latest(checkpoints)) return named;
  const auto all = list_checkpoints(checkpoints);
  if (all.empty()) return {};
  return all.back();
}

void keep_newest_checkpoints(const fs::path& checkpoints, int64_t keep, FileOperations& operations) {
  if (keep <= 0) return;
  const auto all = list_checkpoints(checkpoints);
  const auto latest = named_by_latest(checkpoints);
  const auto surplus = static_cast<int64_t>(all.size()) - keep;
  for (int64_t i = 0; i < surplus; ++i) {
    const auto& path = all[static_cast<size_t>(i)].path;
    if (latest && latest->path == path) continue;
    // first out of sight in one step, so that a kill in the middle leaves no half-removed checkpoint
    const auto hidden = checkpoints / ("." + path.filename().string() + ".old.part");
    if (operations.rename(path, hidden) != 0 || operations.remove_all(hidden) != 0) {
      throw system_failure(path, "cannot be removed", errno);
    }
  }
}

fs::path resolve_weights_path(const fs::path& file_or_run, bool raw) {
  const auto where = file_or_run.string();
  std::error_code error;
  const auto status = fs::status(file_or_run, error);
  if (!fs::exists(status)) {
    throw failure({where, "no such file or run", {}, {}});
  }
  if (!fs::is_directory(status)) return file_or_run;

  const auto weights_in = [raw](const fs::path& folder) -> std::optional<fs::path> {
    std::error_code ignored;
    const auto ema = folder / "ema.safetensors", model = folder / "model.safetensors";
    if (!raw && fs::is_regular_file(ema, ignored)) return ema;
    if (fs::is_regular_file(model, ignored)) return model;
    return {};
  };
  if (const auto here = weights_in(file_or_run)) return *here;  // a checkpoint's folder
  for (const auto& checkpoints : {file_or_run / "checkpoints", file_or_run}) {
    const auto newest = newest_checkpoint(checkpoints);
    if (!newest) continue;
    if (const auto found = weights_in(newest->path)) return *found;
    throw failure({newest->path.string(), "checkpoint holds no weights", "model.safetensors or ema.safetensors", {}});
  }
  throw failure({where, "no checkpoint in this folder", "a run's folder, a checkpoint's folder or a file", {}});
}

}  // namespace nextscale
