#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "nextscale/io/bytes.h"

namespace nextscale {

/// Starts as a zip archive does.
bool is_zip(std::span<const std::byte> bytes);

struct ZipEntry {
  std::string name;     ///< as it stands in the archive: never used as a path
  uint16_t method = 0;  ///< 0 stored, 8 deflated, 0xFFFF encrypted; what else there is cannot be read
  uint32_t crc = 0;
  uint64_t packed = 0, size = 0;  ///< bytes in the archive, bytes of content
  uint64_t offset = 0;            ///< of the local header
};

/// Whether content is compared with its checksum. `compressed`: only what has to be read anyway; stored content stays
/// untouched pages of a mapped file.
enum class ZipChecksums { never, compressed, always };

/// The entries of a zip archive in memory (stored or deflated, with or without zip64, one volume, not encrypted), for
/// reading at random. Offsets, sizes and counts are checked against the archive before they are used, and all
/// deflated content together may not be larger than deflate can make of the whole archive.
class ZipReader {
 public:
  /// Reads the central directory. @param where names the file in errors
  /// @throws Error failure: cut off, damaged, a name twice, several volumes
  ZipReader(SharedBytes archive, std::string where);
  ZipReader(ZipReader&&) = default;
  ZipReader& operator=(ZipReader&&) = default;

  const std::vector<ZipEntry>& entries() const { return entries_; }  ///< in the order of the central directory
  const ZipEntry* find(std::string_view name) const;                 ///< nullptr if there is none
  /// Content of an entry. A stored one is a span into the archive and shares its owner; a deflated one is decompressed
  /// at each call, into memory of its own or, where it is large, into a file without a name (unpacked.h).
  /// @throws Error failure naming file and entry: damaged, encrypted, another compression, checksum
  SharedBytes read(const ZipEntry& entry, ZipChecksums checksums = ZipChecksums::compressed);

 private:
  std::span<const std::byte> packed_bytes(const ZipEntry& entry, const std::string& here) const;
  SharedBytes archive_;
  std::string where_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string_view, size_t> by_name_;  // views of entries_' names, which never move
  uint64_t directory_ = 0;                                // where content ends and the central directory begins
  uint64_t budget_ = 0;                                   // bytes that may still be decompressed
};

}  // namespace nextscale
