#pragma once

#include <string>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// Copies every tensor of `source` into the one of the same name in `own` (optimizer and EMA after a resume).
/// @param where names the file in errors
/// @throws Error failure for a missing or extra name or another shape, before anything was changed
void restore(const NamedTensors& own, const NamedTensors& source, const std::string& where);

}  // namespace nextscale
