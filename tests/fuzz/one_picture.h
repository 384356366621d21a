#pragma once

#include "nextscale/data/exif.h"
#include "nextscale/data/picture_formats.h"
#include "nextscale/tests/fuzz/one_input.h"

namespace nextscale::testing {

/// A picture of any format. Large ones are only measured: memory for them is not what is looked for here.
inline bool one_picture(std::span<const std::byte> input) {
  constexpr int64_t kLargest = 1 << 20;  // pixels
  [[maybe_unused]] const volatile int orientation = exif_orientation(input);
  return read_or_refuse([&] {
    const std::string where = "input";
    const auto size = formats::decode({.bytes = input, .where = where, .size_only = true});
    if (size.height > kLargest / size.width) return 0;
    const auto pixels = formats::decode({.bytes = input, .where = where});
    return touch(std::as_bytes(std::span(pixels.values)));
  });
}

}  // namespace nextscale::testing
