#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "nextscale/io/file_operations.h"

namespace nextscale {

/// When a file must have reached the disk. `later`: whoever writes thousands calls sync_file_system once at the end; a
/// killed process still leaves no half file, a power cut before that may.
enum class Sync { now, later };

/// A file that is complete or not there: written as `.NAME.PID.part` beside its place, fsynced and renamed by commit();
/// removed by the destructor otherwise. Its folder must exist.
class AtomicFile {
 public:
  /// @throws Error failure if something else than a regular file has that name
  explicit AtomicFile(std::filesystem::path target, FileOperations& operations = system_files());
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& path() const { return part_; }  ///< write here with whatever writer, or with write()
  void write(std::span<const std::byte> bytes);                ///< appends. @throws Error failure naming the target
  void commit(Sync sync = Sync::now);                          ///< @throws Error failure naming the target

 private:
  void open(int flags);
  std::filesystem::path target_, part_;
  FileOperations& operations_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// @throws Error failure naming the file
void write_text_atomically(const std::filesystem::path& path, std::string_view text,
                           FileOperations& operations = system_files());
/// @throws Error failure naming the file
std::string read_text(const std::filesystem::path& path);
/// fsync of one file or folder. @throws Error failure
void sync_to_disk(const std::filesystem::path& path, FileOperations& operations = system_files());
/// Everything written to the file system of this folder. @throws Error failure
void sync_file_system(const std::filesystem::path& folder, FileOperations& operations = system_files());

}  // namespace nextscale
