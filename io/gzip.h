#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace nextscale {

bool is_gzip(std::span<const std::byte> bytes);
/// Deflate makes at most 1032 bytes of one: the most that so many compressed bytes can hold.
int64_t gzip_most_bytes(size_t compressed);

/// Decompresses a gzip file in memory piece by piece and checks its checksums. Several members in a row are one
/// content.
class GzipReader {
 public:
  /// @param where names the file in errors
  GzipReader(std::span<const std::byte> file, std::string where);
  ~GzipReader();
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  /// Fills `out` as far as there is content. @returns bytes written; fewer than out.size() only at the end
  /// @throws Error failure for a damaged or cut-off stream
  size_t read(std::span<std::byte> out);
  uint64_t position() const { return position_; }  ///< bytes of content read so far

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
  std::span<const std::byte> left_;
  std::string where_;
  uint64_t position_ = 0;
  bool ended_ = false;
};

}  // namespace nextscale
