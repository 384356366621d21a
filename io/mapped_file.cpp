#include "nextscale/io/mapped_file.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {
namespace {

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path, Mode mode) {
  // O_NONBLOCK: opening a named pipe must not wait for its other end.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) throw system_failure(path, "cannot be read", errno);
  return of_descriptor(file.number, path, mode);
}

std::shared_ptr<const MappedFile> MappedFile::of_descriptor(int descriptor, const std::filesystem::path& path,
                                                            Mode mode) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) throw system_failure(path, "cannot be read", errno);
  if (S_ISDIR(status.st_mode)) throw failure({path.string(), "cannot be read", "a file", "a folder"});
  if (!S_ISREG(status.st_mode)) throw failure({path.string(), "cannot be read", "a regular file", "a pipe or device"});
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return std::shared_ptr<const MappedFile>(new MappedFile(nullptr, 0));  // mmap refuses empty maps

  const bool writable = mode == Mode::copy_on_write;
  // MAP_NORESERVE: pages that nobody changes need no memory, so the kernel must not count the file as if all will be.
  void* address =
      ::mmap(nullptr, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  if (address == MAP_FAILED) throw system_failure(path, "cannot be mapped", errno);
  return std::shared_ptr<const MappedFile>(new MappedFile(address, size));
}

MappedFile::~MappedFile() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

SharedBytes map_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return {file, file->bytes()};
}

}  // namespace nextscale
