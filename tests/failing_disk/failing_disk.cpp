// A disk that fails, for whole programs: preloaded (LD_PRELOAD), it stands between a program and the C library.
//   FAILING_DISK_FOLDER  only what is written below it counts
//   FAILING_DISK_AT      number (0-based) of the operation that fails with ENOSPC: open for writing, write, sync,
//   rename,
//                        mkdir; a write takes a part first, as full disks do
//   FAILING_DISK_MARK    file that is made when that happens
//   FAILING_DISK_FREE    bytes that are free, as statvfs tells them
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace {

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool counts(const char* path) {
  const char* folder = std::getenv("FAILING_DISK_FOLDER");
  return folder != nullptr && path != nullptr && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

bool counts(int descriptor) {
  char path[PATH_MAX];
  const auto link = "/proc/self/fd/" + std::to_string(descriptor);
  const auto length = readlink(link.c_str(), path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = '\0';
  return counts(path);
}

bool fails() {
  static std::atomic<int> operations{0};
  const char* at = std::getenv("FAILING_DISK_AT");
  if (at == nullptr || operations++ != std::atoi(at)) return false;
  if (const char* mark = std::getenv("FAILING_DISK_MARK")) close(real<int(const char*, mode_t)>("creat")(mark, 0666));
  errno = ENOSPC;
  return true;
}

constexpr int kWriting = O_WRONLY | O_RDWR | O_CREAT;

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(va_arg(arguments, int));
  va_end(arguments);
  if ((flags & kWriting) != 0 && counts(path) && fails()) return -1;
  return real<int(const char*, int, mode_t)>("open")(path, flags, mode);
}

ssize_t write(int descriptor, const void* bytes, size_t count) {
  const auto write = real<ssize_t(int, const void*, size_t)>("write");
  if (!counts(descriptor) || !fails()) return write(descriptor, bytes, count);
  if (count > 1) write(descriptor, bytes, count / 2);
  errno = ENOSPC;
  return -1;
}

int fsync(int descriptor) { return counts(descriptor) && fails() ? -1 : 0; }  // really syncing would only cost time
int syncfs(int descriptor) noexcept { return counts(descriptor) && fails() ? -1 : 0; }

int rename(const char* from, const char* to) noexcept {
  return counts(to) && fails() ? -1 : real<int(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) noexcept {
  return counts(path) && fails() ? -1 : real<int(const char*, mode_t)>("mkdir")(path, mode);
}

int statvfs(const char* path, struct statvfs* status) noexcept {
  const int result = real<int(const char*, struct statvfs*)>("statvfs")(path, status);
  const char* free = std::getenv("FAILING_DISK_FREE");
  if (result == 0 && free != nullptr) status->f_bavail = std::strtoull(free, nullptr, 10) / status->f_frsize;
  return result;
}

}  // extern "C"
