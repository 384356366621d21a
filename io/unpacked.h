#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nextscale/io/bytes.h"
#include "nextscale/io/gzip.h"

namespace nextscale {

/// Up to here unpacked files are held in memory, larger ones in a file.
inline constexpr size_t kUnpackedInMemory = size_t{64} << 20;

/// Bytes to be filled.
struct WritableBytes {
  std::shared_ptr<const void> owner;
  std::span<std::byte> bytes;
};
/// Room for so many bytes of unpacked content: memory, or above `in_memory` a file without a name as below, whose room
/// is taken at once.
/// @throws Error failure if the folder has no room, naming both
WritableBytes room_for(uint64_t size, const std::string& where, size_t in_memory = kUnpackedInMemory);

/// Takes up to `most` bytes of content from `reader` for reading at random. More than `in_memory` of them go to a file
/// without a name in the system's folder for temporary files (TMPDIR, else /tmp), which is mapped and gone with the
/// result: memory does not grow with the content.
/// @param where names the compressed file in errors
/// @throws Error failure as GzipReader::read, or if the folder has no room, naming both
SharedBytes unpack(GzipReader& reader, uint64_t most, const std::string& where, size_t in_memory = kUnpackedInMemory);

}  // namespace nextscale
