#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include <sys/types.h>

#include "nextscale/base/error.h"

namespace nextscale {

/// The system calls by which files and checkpoints are written, each as in POSIX: -1 and errno on failure. Writers take
/// one as their last argument, so that tests can make the n-th call fail.
class FileOperations {
 public:
  virtual ~FileOperations() = default;
  virtual int open(const std::filesystem::path& path, int flags, mode_t mode);
  virtual ssize_t write(int descriptor, const void* bytes, size_t count);
  virtual int fsync(int descriptor);
  /// syncfs(2): all of the file system that the descriptor lies on.
  virtual int sync_file_system(int descriptor);
  virtual int close(int descriptor);
  virtual int rename(const std::filesystem::path& from, const std::filesystem::path& to);
  /// Two names change places in one step (renameat2). errno EINVAL or ENOSYS where the file system cannot.
  virtual int exchange(const std::filesystem::path& one, const std::filesystem::path& other);
  virtual int make_folder(const std::filesystem::path& path);
  /// A file or a folder with all in it; nothing there is no failure.
  virtual int remove_all(const std::filesystem::path& path);
};

/// The operations of the system; has no state.
FileOperations& system_files();

/// "PATH: WHAT: No space left on device". @param code errno
Error system_failure(const std::filesystem::path& path, const std::string& what, int code);

}  // namespace nextscale
