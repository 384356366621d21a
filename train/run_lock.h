#pragma once

#include <filesystem>

namespace nextscale {

/// One process a folder: holds `FOLDER/lock`, which says pid and host of its holder. The lock is the kernel's, so it
/// ends with the process however that ends; the file stays behind, empty when its holder ended in order.
class RunLock {
 public:
  /// @throws Error failure if another process holds it (names pid and host), or the folder cannot be written
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace nextscale
