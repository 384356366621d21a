#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "nextscale/io/bytes.h"

namespace nextscale {

/// A whole regular file in memory, page by page as it is read. Plain mmap, so that readers compile without LibTorch.
/// A file that another process cuts while it is mapped kills this one (SIGBUS); ours are replaced by rename, never cut.
class MappedFile {
 public:
  enum class Mode {
    read_only,
    copy_on_write,  ///< bytes may be changed; the file does not see it
  };
  /// @throws Error failure naming the file: missing, no regular file, not readable
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path, Mode mode = Mode::read_only);
  /// Of an open regular file, which may be closed afterwards. @param path names it in errors
  static std::shared_ptr<const MappedFile> of_descriptor(int descriptor, const std::filesystem::path& path,
                                                         Mode mode = Mode::read_only);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_}; }

 private:
  MappedFile(void* address, size_t size) : address_(address), size_(size) {}
  void* address_;
  size_t size_;
};

/// The file mapped read-only, as readers take it.
SharedBytes map_file(const std::filesystem::path& path);

}  // namespace nextscale
