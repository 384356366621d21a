#include "nextscale/io/pickle_text.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

namespace nextscale {

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return false;
    uint32_t point = lead & (0xFFu >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return false;
      point = (point << 6) | (next & 0x3Fu);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kSmallest[length] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return false;
    i += length;
  }
  return true;
}

std::string decimal_text(std::span<const std::byte> little_endian) {
  std::vector<uint32_t> value(little_endian.size());  // bytes, most significant last
  std::transform(little_endian.begin(), little_endian.end(), value.begin(),
                 [](std::byte b) { return static_cast<uint32_t>(b); });
  const bool negative = !value.empty() && value.back() >= 0x80;
  if (negative) {
    uint32_t carry = 1;
    for (auto& byte : value) {
      byte = (byte ^ 0xFFu) + carry;
      carry = byte >> 8;
      byte &= 0xFFu;
    }
  }
  std::string digits;
  for (;;) {
    while (!value.empty() && value.back() == 0) value.pop_back();
    if (value.empty()) break;
    uint32_t rest = 0;
    for (size_t i = value.size(); i-- > 0;) {
      const uint32_t part = (rest << 8) | value[i];
      value[i] = part / 10;
      rest = part % 10;
    }
    digits += static_cast<char>('0' + rest);
  }
  if (digits.empty()) return "0";
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (const char c : text.substr(0, limit)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > limit) out += "...";
  return out;
}

}  // namespace nextscale
