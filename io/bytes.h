#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nextscale {

/// Bytes with whatever keeps them alive: a mapped file, a decompressed buffer.
struct SharedBytes {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

/// a * b and a + b of sizes that come from a file. @returns false where the result does not fit (then *out is
/// unspecified)
[[nodiscard]] bool checked_multiply(int64_t a, int64_t b, int64_t* out);
[[nodiscard]] bool checked_add(int64_t a, int64_t b, int64_t* out);

std::string_view as_text(std::span<const std::byte> bytes);
std::span<const std::byte> as_bytes(std::string_view text);
/// "12 bytes", "3.4 MB", "1.2 GB" (decimal units)
std::string bytes_text(uint64_t bytes);

/// Reads forward over bytes of a file and never beyond them.
class ByteCursor {
 public:
  /// @param where names the file in errors
  ByteCursor(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  /// The next `count` bytes. @param what names them in errors ("header")
  /// @throws Error failure "FILE: header is cut off: expected 8 bytes at offset 0, got 3 bytes"
  std::span<const std::byte> take(size_t count, const char* what);
  uint8_t u8(const char* what);
  uint32_t u32_big_endian(const char* what);
  uint64_t u64_little_endian(const char* what);

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  size_t position_ = 0;
};

}  // namespace nextscale
