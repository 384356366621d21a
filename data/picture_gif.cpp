#include <algorithm>
#include <array>
#include <optional>

#include "nextscale/data/picture_formats.h"

// The first frame of a GIF; OpenCV of Debian 12 and Ubuntu 24.04 reads none.
namespace nextscale::formats {
namespace {

constexpr int kLongestCode = 12;  // bits
constexpr int kCodes = 1 << kLongestCode;

class Reader {
 public:
  explicit Reader(const Request& request) : request_(request) {}
  uint8_t byte() {
    if (position_ >= request_.bytes.size()) refuse(request_, "GIF", "the file ends early");
    return static_cast<uint8_t>(request_.bytes[position_++]);
  }
  int64_t u16() {
    const int64_t low = byte();
    return low | int64_t{byte()} << 8;
  }
  void skip(int64_t count) {
    while (count-- > 0) byte();
  }
  void skip_blocks() {
    while (const auto size = byte()) skip(size);
  }
  std::vector<uint8_t> blocks() {
    std::vector<uint8_t> all;
    while (const auto size = byte()) {
      for (int i = 0; i < size; ++i) all.push_back(byte());
    }
    return all;
  }
  std::vector<std::array<uint8_t, 3>> palette(uint8_t flags) {
    std::vector<std::array<uint8_t, 3>> colours(flags & 0x80 ? size_t{2} << (flags & 7) : 0);
    for (auto& colour : colours) {
      for (auto& value : colour) value = byte();
    }
    return colours;
  }

 private:
  const Request& request_;
  size_t position_ = 0;
};

// Lempel-Ziv-Welch with codes that grow from `first_bits + 1` to 12 bits, low bits first.
// @returns exactly `count` palette indices, or nothing where the stream is damaged or too short
std::optional<std::vector<uint8_t>> unpack(const std::vector<uint8_t>& stream, int first_bits, size_t count) {
  if (first_bits < 1 || first_bits > 8) return std::nullopt;
  std::array<int16_t, kCodes> prefix{};
  std::array<uint8_t, kCodes> suffix{}, stack{};
  const int clear = 1 << first_bits, end = clear + 1;
  for (int code = 0; code < clear; ++code) suffix[static_cast<size_t>(code)] = static_cast<uint8_t>(code);
  std::vector<uint8_t> out;
  out.reserve(count);
  int bits = first_bits + 1, next = end + 1, previous = -1, held = 0;
  uint32_t buffer = 0;
  uint8_t first = 0;
  size_t at = 0;
  while (out.size() < count) {
    while (held < bits) {
      if (at == stream.size()) return std::nullopt;
      buffer |= uint32_t{stream[at++]} << held;
      held += 8;
    }
    int code = static_cast<int>(buffer & ((1u << bits) - 1));
    buffer >>= bits;
    held -= bits;
    if (code == end) return std::nullopt;
    if (code == clear) {
      bits = first_bits + 1;
      next = end + 1;
      previous = -1;
      continue;
    }
    if (code > next || (code == next && previous < 0)) return std::nullopt;
    if (previous < 0 && code >= clear) return std::nullopt;
    const int given = code;
    size_t depth = 0;
    if (code == next) {  // the code that is about to be defined: the previous string and its own first value
      stack[depth++] = first;
      code = previous;
    }
    while (code > end) {
      stack[depth++] = suffix[static_cast<size_t>(code)];
      code = prefix[static_cast<size_t>(code)];
    }
    first = suffix[static_cast<size_t>(code)];
    out.push_back(first);
    while (depth > 0 && out.size() < count) out.push_back(stack[--depth]);
    if (previous >= 0 && next < kCodes) {
      prefix[static_cast<size_t>(next)] = static_cast<int16_t>(previous);
      suffix[static_cast<size_t>(next)] = first;
      if (++next == 1 << bits && bits < kLongestCode) ++bits;
    }
    previous = given;
  }
  return out;
}

// Stored row r of an interlaced picture is row rows[r] of the picture.
std::vector<int64_t> stored_rows(int64_t height, bool interlaced) {
  std::vector<int64_t> rows;
  const auto pass = [&](int64_t first, int64_t step) {
    for (int64_t y = first; y < height; y += step) rows.push_back(y);
  };
  if (!interlaced) {
    pass(0, 1);
    return rows;
  }
  pass(0, 8), pass(4, 8), pass(2, 4), pass(1, 2);
  return rows;
}

}  // namespace

Pixels decode_gif(const Request& request) {
  Reader reader(request);
  reader.skip(6);  // GIF87a or GIF89a
  Pixels pixels{.height = 0, .width = reader.u16(), .channels = 3, .values = {}};
  pixels.height = reader.u16();
  check_size(request, pixels.height, pixels.width);
  if (request.size_only) return pixels;
  const auto flags = reader.byte();
  const size_t background = reader.byte();
  reader.skip(1);  // aspect
  const auto shared_palette = reader.palette(flags);
  for (uint8_t kind = reader.byte(); kind != 0x2c; kind = reader.byte()) {
    if (kind != 0x21) refuse(request, "GIF", "no picture inside");
    reader.skip(1);
    reader.skip_blocks();  // an extension
  }
  const auto left = reader.u16(), top = reader.u16(), width = reader.u16(), height = reader.u16();
  const auto frame_flags = reader.byte();
  const auto own_palette = reader.palette(frame_flags);
  const auto& palette = own_palette.empty() ? shared_palette : own_palette;
  if (left + width > pixels.width || top + height > pixels.height) refuse(request, "GIF", "frame outside the picture");
  const int first_bits = reader.byte();
  const auto indices = unpack(reader.blocks(), first_bits, static_cast<size_t>(width * height));
  if (!indices) refuse(request, "GIF", "damaged or cut off");

  const auto fill = background < shared_palette.size() ? shared_palette[background] : std::array<uint8_t, 3>{};
  pixels.values.resize(static_cast<size_t>(pixels.height * pixels.width * 3));
  for (size_t i = 0; i < pixels.values.size(); ++i) pixels.values[i] = fill[i % 3];
  const auto rows = stored_rows(height, frame_flags & 0x40);
  for (int64_t r = 0; r < height; ++r) {
    for (int64_t x = 0; x < width; ++x) {
      const size_t index = (*indices)[static_cast<size_t>(r * width + x)];
      if (index >= palette.size()) refuse(request, "GIF", "colour outside the palette");
      const auto at = ((top + rows[static_cast<size_t>(r)]) * pixels.width + left + x) * 3;
      std::copy(palette[index].begin(), palette[index].end(), pixels.values.begin() + at);
    }
  }
  return pixels;
}

}  // namespace nextscale::formats
