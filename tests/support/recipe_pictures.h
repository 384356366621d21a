#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace nextscale::testing {

/// The fixtures' pictures, from integer arithmetic alone.
/// @param kind "noise", "white", "black", "blocks" (16 along the longer side) or "smooth" (waves in both directions)
/// @returns (height, width, 3) uint8
at::Tensor recipe_picture(const std::string& name, const std::string& kind, int64_t height, int64_t width);

}  // namespace nextscale::testing
