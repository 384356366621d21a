#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "nextscale/io/bytes.h"

namespace nextscale {

/// MNIST's format: two zero bytes, a type byte, the number of dimensions, the big-endian sizes, then the values.
enum class IdxType : uint8_t { uint8 = 0x08, int32 = 0x0C };

struct IdxArray {
  IdxType type = IdxType::uint8;
  std::vector<int64_t> shape;
  SharedBytes data;  ///< exactly the product of `shape` values, big-endian as in the file
};

/// More than this is refused in one array (bytes after decompression).
inline constexpr int64_t kIdxLimit = int64_t{64} << 30;

/// A plain or gzip-compressed IDX file in memory, recognised by its first bytes. Values of a plain file point into
/// `file` (the result holds file.owner); a compressed one is decompressed only as far as its header says.
/// @param where names the file in errors
/// @throws Error failure naming expected and found bytes: no IDX, another value type, a size that does not fit, too few
/// or too many bytes, a damaged gzip stream
IdxArray parse_idx(const SharedBytes& file, const std::string& where);
/// The same of a file on disk, mapped.
IdxArray read_idx(const std::filesystem::path& path);

/// Pictures N x height x width (one channel) or N x height x width x 3. Reading from several threads is safe.
struct IdxImages {
  int64_t count = 0, height = 0, width = 0, channels = 1;
  SharedBytes data;

  int64_t picture_bytes() const { return height * width * channels; }
  /// (height, width, channels) uint8; 0 <= i < count
  std::span<const std::byte> picture(int64_t i) const {
    return data.bytes.subspan(static_cast<size_t>(i * picture_bytes()), static_cast<size_t>(picture_bytes()));
  }
};

/// @throws Error failure naming file, expected and found: as read_idx, or an array that is no pictures
IdxImages read_idx_images(const std::filesystem::path& path);
/// One-dimensional uint8 or int32. @throws Error failure as above, or for a negative label
std::vector<int64_t> read_idx_labels(const std::filesystem::path& path);

}  // namespace nextscale
