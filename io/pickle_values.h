#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nextscale/io/pickle.h"

namespace nextscale {

/// What readers of pickled files take from a tree. `here` names the place in errors, `what` the value ("shape").

/// Name of what an object calls; empty if it is no object.
std::string_view pickle_called(const PickleTree& tree, PickleId id);
/// Arguments of that call, of an object only.
const std::vector<PickleId>& pickle_arguments(const PickleTree& tree, PickleId id);

/// @throws Error failure at `here`: something else than an integer of 64 bits, not negative
int64_t pickle_integer(const PickleTree& tree, PickleId id, const char* what, const std::string& here);
/// Those of a tuple or list. @throws Error failure as pickle_integer, or more of them than dimensions are read
std::vector<int64_t> pickle_integers(const PickleTree& tree, PickleId id, const char* what, const std::string& here);

}  // namespace nextscale
