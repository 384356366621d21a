#include "nextscale/train/run_lock.h"

#include <array>
#include <cerrno>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string text_of(int descriptor) {
  std::array<char, 512> bytes{};
  const ssize_t count = pread(descriptor, bytes.data(), bytes.size(), 0);
  std::string text(bytes.data(), static_cast<size_t>(count > 0 ? count : 0));
  return text.substr(0, text.find('\n'));
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& folder) {
  const auto path = folder / "lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw system_failure(path, "cannot be written", errno);
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int code = errno;
    const std::string holder = text_of(descriptor_);
    ::close(descriptor_);
    if (code != EWOULDBLOCK) throw system_failure(path, "cannot be locked", code);
    throw failure({.where = folder.string(),
                   .what = "another process works in this run",
                   .got = holder.empty() ? "a process that has just begun" : holder});
  }
  const std::string text = fmt::format("pid {} on {}\n", getpid(), host_name());
  if (ftruncate(descriptor_, 0) != 0 ||
      pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int code = errno;
    ::close(descriptor_);
    throw system_failure(path, "cannot be written", code);
  }
}

RunLock::~RunLock() {
  // A leftover text would do no harm, the lock itself is the kernel's; an empty file just says it better.
  if (ftruncate(descriptor_, 0) != 0) errno = 0;
  ::close(descriptor_);
}

}  // namespace nextscale
