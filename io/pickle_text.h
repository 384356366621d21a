#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace nextscale {

/// Valid UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);
/// A little-endian two's complement integer of any length in decimal. Quadratic: for short ones.
std::string decimal_text(std::span<const std::byte> little_endian);
/// Foreign text for an error: what is not printable ASCII is written \xNN, and at most `limit` bytes are shown.
std::string printable(std::string_view text, size_t limit);

}  // namespace nextscale
