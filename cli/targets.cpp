#include "nextscale/cli/targets.h"

#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/disk.h"

namespace nextscale::cli {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder)) {
    throw failure({folder.string(), "cannot be made a folder", {}, error ? error.message() : "a file is there"});
  }
  if (::access(folder.c_str(), W_OK) != 0) throw failure({.where = folder.string(), .what = "cannot be written to"});
}

void prepare_target(const std::string& file, uint64_t bytes) {
  if (file.empty()) return;
  if (fs::is_directory(file)) throw failure({file, "is a folder", "a file to write", {}});
  const auto folder = fs::absolute(file).parent_path();
  make_folder(folder);
  require_free_space(folder, bytes);
}

void make_picture_folder(const fs::path& folder, int64_t count, int64_t channels, int64_t side) {
  make_folder(folder);
  require_free_space(folder, static_cast<uint64_t>(count * channels * side * side / 2));
}

std::string picture_name(int64_t index, int64_t label) {
  return label < 0 ? fmt::format("{:06}_nolabel.png", index) : fmt::format("{:06}_class{:03}.png", index, label);
}

}  // namespace nextscale::cli
