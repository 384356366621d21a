#pragma once

#include <cstdint>

namespace nextscale {

/// Pictures with more pixels are refused before anything is decoded (the reference's decoder has the same limit).
inline constexpr int64_t kPixelLimit = 178'956'970;

}  // namespace nextscale
