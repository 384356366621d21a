#pragma once

#include <cerrno>
#include <filesystem>

#include "nextscale/io/file_operations.h"

namespace nextscale::testing {

/// The real operations until number `fail_at` (0-based), which fails with ENOSPC. `crash`: so do all later ones, as if
/// the process had been killed there: not even cleaning up works.
class FailingFiles : public FileOperations {
 public:
  FailingFiles(int fail_at, bool crash) : fail_at_(fail_at), crash_(crash) {}
  int open(const std::filesystem::path& path, int flags, mode_t mode) override {
    return fails() ? -1 : FileOperations::open(path, flags, mode);
  }
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (!fails()) return FileOperations::write(descriptor, bytes, count);
    if (count > 1 && FileOperations::write(descriptor, bytes, count / 2) < 0)
      return -1;  // a full disk takes a part first
    errno = ENOSPC;
    return -1;
  }
  int fsync(int) override { return fails() ? -1 : 0; }  // really syncing would only cost time
  int sync_file_system(int) override { return fails() ? -1 : 0; }
  int close(int descriptor) override {
    const int result = FileOperations::close(descriptor);  // a failed close still closes
    return fails() ? -1 : result;
  }
  int rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    return fails() ? -1 : FileOperations::rename(from, to);
  }
  int exchange(const std::filesystem::path& one, const std::filesystem::path& other) override {
    if (without_exchange) {
      errno = EINVAL;
      return -1;
    }
    return fails() ? -1 : FileOperations::exchange(one, other);
  }
  int make_folder(const std::filesystem::path& path) override {
    return fails() ? -1 : FileOperations::make_folder(path);
  }
  int remove_all(const std::filesystem::path& path) override { return fails() ? -1 : FileOperations::remove_all(path); }

  int calls = 0;
  bool without_exchange = false;

 private:
  bool fails() {
    const int call = calls++;
    if (call < fail_at_ || (call > fail_at_ && !crash_)) return false;
    errno = ENOSPC;
    return true;
  }
  int fail_at_;
  bool crash_;
};

}  // namespace nextscale::testing
