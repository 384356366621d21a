#include "nextscale/io/file_operations.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace nextscale {

int FileOperations::open(const std::filesystem::path& path, int flags, mode_t mode) {
  return ::open(path.c_str(), flags | O_CLOEXEC, mode);
}

ssize_t FileOperations::write(int descriptor, const void* bytes, size_t count) {
  return ::write(descriptor, bytes, count);
}

int FileOperations::fsync(int descriptor) { return ::fsync(descriptor); }
int FileOperations::sync_file_system(int descriptor) { return ::syncfs(descriptor); }
int FileOperations::close(int descriptor) { return ::close(descriptor); }

int FileOperations::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str());
}

int FileOperations::exchange(const std::filesystem::path& one, const std::filesystem::path& other) {
  constexpr unsigned kExchange =
      2;  // RENAME_EXCHANGE; its name needs _GNU_SOURCE, and old C libraries lack the function
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), kExchange));
}

int FileOperations::make_folder(const std::filesystem::path& path) { return ::mkdir(path.c_str(), 0777); }

int FileOperations::remove_all(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  errno = error.value();
  return error ? -1 : 0;
}

FileOperations& system_files() {
  static FileOperations operations;
  return operations;
}

Error system_failure(const std::filesystem::path& path, const std::string& what, int code) {
  return failure({.where = path.string(), .what = what + ": " + std::generic_category().message(code)});
}

}  // namespace nextscale
