#include "nextscale/io/bytes.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {

bool checked_multiply(int64_t a, int64_t b, int64_t* out) { return !__builtin_mul_overflow(a, b, out); }
bool checked_add(int64_t a, int64_t b, int64_t* out) { return !__builtin_add_overflow(a, b, out); }

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string bytes_text(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} bytes", bytes);
  if (bytes < 1'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

std::span<const std::byte> ByteCursor::take(size_t count, const char* what) {
  if (count > left()) {
    throw failure({.where = where_,
                   .what = fmt::format("{} is cut off", what),
                   .expected = fmt::format("{} bytes at offset {}", count, position_),
                   .got = fmt::format("{} bytes", left())});
  }
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

uint8_t ByteCursor::u8(const char* what) { return static_cast<uint8_t>(take(1, what)[0]); }

uint32_t ByteCursor::u32_big_endian(const char* what) {
  uint32_t value = 0;
  for (const auto byte : take(4, what)) value = (value << 8) | static_cast<uint32_t>(byte);
  return value;
}

uint64_t ByteCursor::u64_little_endian(const char* what) {
  const auto bytes = take(8, what);
  uint64_t value = 0;
  for (size_t i = 8; i-- > 0;) value = (value << 8) | static_cast<uint64_t>(bytes[i]);
  return value;
}

}  // namespace nextscale
