#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "nextscale/io/atomic_file.h"

namespace nextscale {

/// Writes a zip archive of stored entries one after another and piece by piece, of any size (zip64 where numbers need
/// it). Complete and in its place after finish(), not there (an older file of that name untouched) if finish() was not
/// reached. The bytes depend on what is written alone: no times, no users.
class ZipWriter {
 public:
  explicit ZipWriter(const std::filesystem::path& path, FileOperations& operations = system_files());
  /// Begins an entry; the one before must be whole.
  /// @param size       bytes of content
  /// @param alignment  content begins at a multiple of it in the file, 1 to 4096
  /// @throws Error failure naming file and entry: content of the entry before is missing, a name that comes twice or is
  /// longer than 65,535 bytes, or the disk is full
  void begin(const std::string& name, uint64_t size, uint64_t alignment = 1);
  /// The next content. @throws Error failure if it is more than announced, or the disk is full
  void write(std::span<const std::byte> content);
  /// A whole entry. @throws as begin()
  void add(const std::string& name, std::span<const std::byte> content, uint64_t alignment = 1);
  /// @throws Error failure if content is missing or the file cannot be put in its place
  void finish();

 private:
  struct Entry {
    std::string name;
    uint64_t offset = 0, size = 0;
    uint32_t crc = 0;
  };
  void put(const std::string& bytes);
  void end_entry();
  std::string here() const;

  std::string where_;
  AtomicFile file_;
  std::vector<Entry> entries_;
  std::unordered_set<std::string> names_;
  uint64_t position_ = 0;  // in the file
  uint64_t left_ = 0;      // bytes of content that the newest entry lacks
};

}  // namespace nextscale
