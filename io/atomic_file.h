#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace nextscale {

/// A file that is complete or not there: written as `.NAME.PID.part` beside its place, fsynced and renamed by commit();
/// removed by the destructor otherwise.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& path() const { return part_; }  ///< write here with whatever writer
  void commit();                                               ///< @throws Error failure naming the target

 private:
  std::filesystem::path target_, part_;
  bool committed_ = false;
};

/// @throws Error failure naming the file
void write_text_atomically(const std::filesystem::path& path, std::string_view text);
std::string read_text(const std::filesystem::path& path);
/// fsync of one file or folder. @throws Error failure
void sync_to_disk(const std::filesystem::path& path);

}  // namespace nextscale
