#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "nextscale/io/bytes.h"
#include "nextscale/io/npy.h"

namespace nextscale {

/// Limits against damaged and hostile files; a network has some hundred arrays.
inline constexpr size_t kNumpyPickleArrayLimit = 10'000;
inline constexpr size_t kNumpyPickleNameLimit = 200;  ///< bytes

struct NumpyPickleEntry {
  std::string name;  ///< its key, in a list with its position: "fire2/squeeze1x1/0"
  NpyArray array;
};

/// Reads a pickled dict (protocol 2 to 5) of numpy arrays, or of lists or tuples of them, in the order of the file.
/// Nothing of it is run (io/pickle.h): beside what every pickle may hold it may name
/// numpy.core.multiarray._reconstruct, numpy.ndarray and numpy.dtype, and nothing else. All arrays together are no
/// larger than the file.
/// @param where  names the file in errors
/// @throws Error failure naming file, entry, expected and found: cut off, bytes behind the pickle, other globals,
/// values that are no arrays, structured types, sizes that do not fit the bytes that are there, a name that comes twice
std::vector<NumpyPickleEntry> parse_numpy_pickle(const SharedBytes& file, const std::string& where);

}  // namespace nextscale
