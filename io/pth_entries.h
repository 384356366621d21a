#pragma once

#include <string>

#include "nextscale/io/pickle.h"
#include "nextscale/io/pth.h"
#include "nextscale/io/pth_storage.h"

namespace nextscale {

/// Walks a pickle's values from the root and makes tensors and texts of them.
/// @param file_bytes  size of the file, against which expanded tensors are measured
/// @param where       names the file in errors
/// @throws Error failure naming file and path
PthFile pth_entries(const PickleTree& tree, PthStorages& storages, size_t file_bytes, const std::string& where);

}  // namespace nextscale
