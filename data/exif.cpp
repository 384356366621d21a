#include "nextscale/data/exif.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "nextscale/io/bytes.h"

namespace nextscale {
namespace {

constexpr std::string_view kExifMark("Exif\0\0", 6);
constexpr int kAsStored = 1;

/// Numbers at any place; beyond the end they are 0, which is no length, tag or orientation.
struct Bytes {
  std::span<const std::byte> all;
  bool big_endian = true;

  uint64_t number(uint64_t at, unsigned count) const {
    if (at > all.size() || all.size() - at < count) return 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < count; ++i) {
      value = value << 8 | static_cast<uint64_t>(all[static_cast<size_t>(at) + (big_endian ? i : count - 1 - i)]);
    }
    return value;
  }
  std::string_view text(uint64_t at, size_t count) const {
    return at > all.size() ? std::string_view() : as_text(all.subspan(static_cast<size_t>(at))).substr(0, count);
  }
  std::span<const std::byte> part(uint64_t at, uint64_t count) const {
    if (at > all.size()) return {};
    return all.subspan(static_cast<size_t>(at), static_cast<size_t>(std::min<uint64_t>(count, all.size() - at)));
  }
};

/// The first directory of a TIFF structure, with or without EXIF's mark before it.
int orientation_in_tiff(std::span<const std::byte> tiff) {
  constexpr uint64_t kOrientation = 0x0112, kShort = 3, kLong = 4;
  if (as_text(tiff).starts_with(kExifMark)) tiff = tiff.subspan(kExifMark.size());
  const auto order = as_text(tiff).substr(0, 2);
  if (order != "II" && order != "MM") return kAsStored;
  const Bytes bytes{tiff, order == "MM"};
  if (bytes.number(2, 2) != 42) return kAsStored;
  const auto directory = bytes.number(4, 4);
  const auto entries = bytes.number(directory, 2);
  for (uint64_t i = 0; i < entries; ++i) {
    const auto entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) break;
    if (bytes.number(entry, 2) != kOrientation) continue;
    const auto type = bytes.number(entry + 2, 2);
    if (type != kShort && type != kLong) return kAsStored;
    const auto value = bytes.number(entry + 8, type == kShort ? 2 : 4);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : kAsStored;
  }
  return kAsStored;
}

int orientation_in_jpeg(const Bytes& bytes) {
  constexpr uint64_t kScan = 0xDA, kEnd = 0xD9, kApp1 = 0xE1;
  uint64_t at = 2;
  while (at + 4 <= bytes.all.size() && bytes.number(at, 1) == 0xFF) {
    const auto marker = bytes.number(at + 1, 1);
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    if (marker == kScan || marker == kEnd) break;
    const auto length = bytes.number(at + 2, 2);  // counts its own two bytes
    if (length < 2) break;
    if (marker == kApp1 && bytes.text(at + 4, kExifMark.size()) == kExifMark) {
      return orientation_in_tiff(bytes.part(at + 4, length - 2));
    }
    at += 2 + length;
  }
  return kAsStored;
}

int orientation_in_png(const Bytes& bytes) {
  for (uint64_t at = 8; at + 12 <= bytes.all.size();) {
    const auto length = bytes.number(at, 4);
    const auto kind = bytes.text(at + 4, 4);
    if (kind == "IEND") break;
    if (kind == "eXIf") return orientation_in_tiff(bytes.part(at + 8, length));
    at += 12 + length;
  }
  return kAsStored;
}

int orientation_in_webp(const Bytes& bytes) {
  for (uint64_t at = 12; at + 8 <= bytes.all.size();) {
    const auto length = bytes.number(at + 4, 4);
    if (bytes.text(at, 4) == "EXIF") return orientation_in_tiff(bytes.part(at + 8, length));
    at += 8 + length + length % 2;
  }
  return kAsStored;
}

}  // namespace

int exif_orientation(std::span<const std::byte> file) {
  const auto text = as_text(file);
  if (text.starts_with("\xFF\xD8\xFF")) return orientation_in_jpeg({file, true});
  if (text.starts_with("\x89PNG\r\n\x1a\n")) return orientation_in_png({file, true});
  if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) return orientation_in_webp({file, false});
  return kAsStored;
}

}  // namespace nextscale
