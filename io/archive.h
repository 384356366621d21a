#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "nextscale/io/bytes.h"

namespace nextscale {

/// Limits against damaged and hostile archives, in bytes after decompression.
inline constexpr int64_t kArchiveEntryLimit = int64_t{2} << 30;     ///< of one file in an archive
inline constexpr int64_t kArchiveUnpackedLimit = int64_t{1} << 40;  ///< of a compressed archive that is unpacked

/// Names like x.tar, x.tar.gz, x.tgz (any case).
bool is_archive_name(const std::filesystem::path& path);

/// @param name  path inside the archive as it stands there, without a leading "./"
/// @param bytes whole content, valid during the call
using EntryFunction = std::function<void(const std::string& name, std::span<const std::byte> bytes)>;

/// Calls `entry` for each regular file of a .tar, .tar.gz or .tgz in its order; folders, links and devices are skipped.
/// Holds one entry at a time.
/// @throws Error failure naming archive and entry: no tar, cut off, damaged gzip stream, sparse or too large entries;
/// and whatever `entry` throws
void for_each_entry(const std::filesystem::path& path, const EntryFunction& entry);
/// The same of an archive in memory. @param where names it in errors
void for_each_entry(std::span<const std::byte> archive, const std::string& where, const EntryFunction& entry);

/// All regular files of an archive for reading at random. A plain tar is mapped: entries point into the file and cost
/// no memory. A compressed one is unpacked once, a large one into a temporary file (unpacked.h).
class TarIndex {
 public:
  /// @throws Error failure as for_each_entry
  explicit TarIndex(const std::filesystem::path& path);
  TarIndex(SharedBytes archive, const std::string& where);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  const std::string& name(int64_t i) const { return entries_.at(static_cast<size_t>(i)).name; }
  /// Content of entry i, valid while this object or a copy of it lives. Safe to call from several threads.
  std::span<const std::byte> bytes(int64_t i) const { return entries_.at(static_cast<size_t>(i)).content.bytes; }

 private:
  struct Entry {
    std::string name;
    SharedBytes content;
  };
  std::vector<Entry> entries_;
};

}  // namespace nextscale
