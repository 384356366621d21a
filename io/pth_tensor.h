#pragma once

#include <string>

#include "nextscale/io/pickle.h"
#include "nextscale/io/pth.h"
#include "nextscale/io/pth_storage.h"

namespace nextscale {

/// Whether a value is put together by one of the functions for tensors and parameters.
bool is_tensor(const PickleTree& tree, PickleId id);

/// The tensor that such a call would make.
/// @param here  names file and path in errors
/// @throws Error failure: malformed, beyond its storage, negative or overflowing numbers
PthTensor rebuild_tensor(const PickleTree& tree, PickleId id, PthStorages& storages, const std::string& here);

}  // namespace nextscale
