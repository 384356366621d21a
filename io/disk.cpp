#include "nextscale/io/disk.h"

#include <cerrno>

#include <sys/statvfs.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {

uint64_t free_space(const std::filesystem::path& folder) {
  auto existing = std::filesystem::absolute(folder);
  std::error_code ignored;
  while (!std::filesystem::exists(existing, ignored) && existing.has_relative_path()) existing = existing.parent_path();
  struct statvfs status {};
  if (::statvfs(existing.c_str(), &status) != 0) throw system_failure(folder, "free space is unknown", errno);
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

void require_free_space(const std::filesystem::path& folder, uint64_t bytes) {
  const auto found = free_space(folder);
  if (found >= bytes) return;
  throw failure({folder.string(), "too little disk", bytes_text(bytes) + " free", bytes_text(found)});
}

}  // namespace nextscale
