#include "nextscale/io/zip.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <zlib.h>

#include "nextscale/base/error.h"
#include "nextscale/io/gzip.h"
#include "nextscale/io/unpacked.h"

namespace nextscale {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kEnd64Locator = 0x07064b50;
constexpr size_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint16_t kNone16 = 0xFFFF;  // "look into the zip64 part"
constexpr uint32_t kNone32 = 0xFFFFFFFF;
constexpr uint16_t kStored = 0, kDeflated = 8, kEncrypted = 1, kZip64Extra = 1;

/// `count` bytes at `at`, little-endian. The caller has checked that they are there.
uint64_t number(std::span<const std::byte> bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = (value << 8) | static_cast<uint64_t>(bytes[at + i]);
  return value;
}
uint16_t u16(std::span<const std::byte> bytes, size_t at) { return static_cast<uint16_t>(number(bytes, at, 2)); }
uint32_t u32(std::span<const std::byte> bytes, size_t at) { return static_cast<uint32_t>(number(bytes, at, 4)); }
uint64_t u64(std::span<const std::byte> bytes, size_t at) { return number(bytes, at, 8); }

/// Where the end record stands: the last one whose comment reaches exactly to the end of the archive.
std::optional<size_t> find_end(std::span<const std::byte> archive) {
  if (archive.size() < kEndBytes) return std::nullopt;
  const size_t last = archive.size() - kEndBytes;
  for (size_t back = 0; back <= std::min<size_t>(last, kNone16); ++back) {
    if (u32(archive, last - back) == kEnd && u16(archive, last - back + 20) == back) return last - back;
  }
  return std::nullopt;
}

struct Directory {
  uint64_t entries, bytes, offset;
  size_t end;  // the directory ends here at the latest
};

Directory find_directory(std::span<const std::byte> archive, const std::string& where) {
  const auto end = find_end(archive);
  if (!end) throw failure({where, "zip archive is cut off: its central directory is missing", {}, {}});
  const auto record = archive.subspan(*end);
  Directory found{u16(record, 10), u32(record, 12), u32(record, 16), *end};
  uint64_t volumes = u16(record, 4) | u16(record, 6), here = u16(record, 8);
  if (*end >= kLocatorBytes && u32(archive, *end - kLocatorBytes) == kEnd64Locator) {
    const auto at = u64(archive, *end - kLocatorBytes + 8);
    const auto limit = *end - kLocatorBytes;
    if (at > limit || limit - at < kEnd64Bytes || u32(archive, static_cast<size_t>(at)) != kEnd64) {
      throw failure({where, "zip archive is damaged: its zip64 record is not where it should be", {}, {}});
    }
    const auto record64 = archive.subspan(static_cast<size_t>(at));
    volumes = u32(record64, 16) | u32(record64, 20);
    here = u64(record64, 24);
    found = {u64(record64, 32), u64(record64, 40), u64(record64, 48), static_cast<size_t>(at)};
  }
  if (volumes != 0 || here != found.entries) {
    throw failure({where, "zip archive consists of several volumes", "one", {}});
  }
  if (found.offset > found.end || found.bytes > found.end - found.offset) {
    throw failure({where, "zip archive is damaged: central directory lies outside",
                   fmt::format("at most {} bytes", found.end),
                   fmt::format("{} bytes at offset {}", found.bytes, found.offset)});
  }
  if (found.entries > found.bytes / kDirectoryBytes) {
    throw failure({where, "zip archive is damaged: central directory is too short for its entries",
                   fmt::format("{} entries", found.entries), fmt::format("{} bytes", found.bytes)});
  }
  return found;
}

/// Sizes and offset that do not fit 32 bits stand in the extra field, in this order and only those.
void read_zip64_extra(std::span<const std::byte> extra, ZipEntry& entry, const std::string& here) {
  const bool wanted = entry.size == kNone32 || entry.packed == kNone32 || entry.offset == kNone32;
  while (wanted && extra.size() >= 4) {
    const auto id = u16(extra, 0);
    const size_t length = u16(extra, 2);
    if (length > extra.size() - 4) break;
    if (id == kZip64Extra) {
      auto field = extra.subspan(4, length);
      for (auto* value : {&entry.size, &entry.packed, &entry.offset}) {
        if (*value != kNone32) continue;
        if (field.size() < 8) throw failure({here, "zip archive is damaged: zip64 field is too short", {}, {}});
        *value = u64(field, 0);
        field = field.subspan(8);
      }
      return;
    }
    extra = extra.subspan(4 + length);
  }
}

uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

struct Inflater {
  z_stream z{};
  Inflater() { good = inflateInit2(&z, -MAX_WBITS) == Z_OK; }
  ~Inflater() {
    if (good) inflateEnd(&z);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  bool good = false;
};

/// @returns whether the stream is whole and fills `out` exactly
bool inflate_exactly(std::span<const std::byte> in, std::span<std::byte> out) {
  constexpr size_t kMostAtOnce = std::numeric_limits<uInt>::max() / 2;  // zlib counts in 32 bits
  Inflater inflater;
  if (!inflater.good) return false;
  auto& z = inflater.z;
  std::byte beyond{};  // one byte more than announced: content that is longer shows
  bool spilled = false;
  for (;;) {
    const auto in_now = std::min(in.size(), kMostAtOnce);
    const auto target = out.empty() ? std::span<std::byte>(&beyond, 1) : out.first(std::min(out.size(), kMostAtOnce));
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    z.avail_in = static_cast<uInt>(in_now);
    z.next_out = reinterpret_cast<Bytef*>(target.data());
    z.avail_out = static_cast<uInt>(target.size());
    const int result = inflate(&z, Z_NO_FLUSH);
    const size_t used = in_now - z.avail_in, made = target.size() - z.avail_out;
    in = in.subspan(used);
    spilled = spilled || (out.empty() && made > 0);
    if (!out.empty()) out = out.subspan(made);
    if (spilled) return false;
    if (result == Z_STREAM_END) return out.empty() && in.empty();
    if (result != Z_OK || (used == 0 && made == 0)) return false;
  }
}

}  // namespace

bool is_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && (u32(bytes, 0) == kLocalHeader || u32(bytes, 0) == kEnd);
}

ZipReader::ZipReader(SharedBytes archive, std::string where) : archive_(std::move(archive)), where_(std::move(where)) {
  const auto bytes = archive_.bytes;
  const auto found = find_directory(bytes, where_);
  directory_ = found.offset;
  budget_ = static_cast<uint64_t>(gzip_most_bytes(bytes.size()));
  auto left = bytes.subspan(static_cast<size_t>(found.offset), static_cast<size_t>(found.bytes));
  entries_.reserve(static_cast<size_t>(found.entries));
  for (uint64_t i = 0; i < found.entries; ++i) {
    if (left.size() < kDirectoryBytes || u32(left, 0) != kDirectoryHeader) {
      throw failure({where_, fmt::format("zip archive is damaged: entry {} of its central directory", i), {}, {}});
    }
    const size_t name = u16(left, 28), extra = u16(left, 30), comment = u16(left, 32);
    if (left.size() - kDirectoryBytes < name + extra + comment) {
      throw failure({where_, fmt::format("zip archive is damaged: entry {} of its central directory is cut off", i),
                     fmt::format("{} bytes", name + extra + comment),
                     fmt::format("{} bytes", left.size() - kDirectoryBytes)});
    }
    ZipEntry entry{std::string(as_text(left.subspan(kDirectoryBytes, name))),
                   u16(left, 10),
                   u32(left, 16),
                   u32(left, 20),
                   u32(left, 24),
                   u32(left, 42)};
    if ((u16(left, 8) & kEncrypted) != 0) entry.method = kNone16;
    read_zip64_extra(left.subspan(kDirectoryBytes + name, extra), entry, where_ + ": " + entry.name);
    entries_.push_back(std::move(entry));
    left = left.subspan(kDirectoryBytes + name + extra + comment);
  }
  by_name_.reserve(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!by_name_.emplace(entries_[i].name, i).second) {
      throw failure({where_ + ": " + entries_[i].name, "zip archive holds this name twice", {}, {}});
    }
  }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

std::span<const std::byte> ZipReader::packed_bytes(const ZipEntry& entry, const std::string& here) const {
  const auto content = archive_.bytes.first(static_cast<size_t>(directory_));
  if (entry.offset > content.size() || content.size() - entry.offset < kLocalBytes ||
      u32(content, static_cast<size_t>(entry.offset)) != kLocalHeader) {
    throw failure({here, fmt::format("zip archive is damaged: no entry at offset {}", entry.offset), {}, {}});
  }
  const auto local = content.subspan(static_cast<size_t>(entry.offset));
  const size_t name = u16(local, 26), extra = u16(local, 28), begin = kLocalBytes + name + extra;
  if (begin > local.size() || as_text(local.subspan(kLocalBytes, name)) != entry.name) {
    throw failure({here, "zip archive is damaged: entry and central directory differ", {}, {}});
  }
  if (entry.packed > local.size() - begin) {
    throw failure({here, "zip archive is cut off", fmt::format("{} bytes", entry.packed),
                   fmt::format("{} bytes", local.size() - begin)});
  }
  return local.subspan(begin, static_cast<size_t>(entry.packed));
}

SharedBytes ZipReader::read(const ZipEntry& entry, ZipChecksums checksums) {
  const auto here = where_ + ": " + entry.name;
  const auto packed = packed_bytes(entry, here);
  SharedBytes content{archive_.owner, packed};
  if (entry.method == kStored) {
    if (entry.size != entry.packed) {
      throw failure({here, "zip archive is damaged: size of a stored entry", fmt::format("{} bytes", entry.packed),
                     fmt::format("{} bytes", entry.size)});
    }
  } else if (entry.method == kDeflated) {
    const auto most = static_cast<uint64_t>(gzip_most_bytes(packed.size()));
    if (entry.size > std::min(most, budget_)) {
      throw failure({here, "zip archive announces more content than it can hold",
                     fmt::format("at most {}", bytes_text(std::min(most, budget_))), bytes_text(entry.size)});
    }
    budget_ -= entry.size;
    const auto room = room_for(entry.size, here);
    if (!inflate_exactly(packed, room.bytes)) throw failure({here, "compressed content is damaged", {}, {}});
    content = {room.owner, room.bytes};
  } else {
    throw failure({here, "zip entry cannot be read", "stored or deflated",
                   entry.method == kNone16 ? "encrypted" : fmt::format("method {}", entry.method)});
  }
  const bool check =
      checksums == ZipChecksums::always || (checksums == ZipChecksums::compressed && entry.method == kDeflated);
  if (check && crc_of(content.bytes) != entry.crc) throw failure({here, "content differs from its checksum", {}, {}});
  return content;
}

}  // namespace nextscale
