#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nextscale/io/bytes.h"
#include "nextscale/io/npy_header.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {

/// More than this is refused as the header of an array, as numpy does; real ones have 128 bytes.
inline constexpr size_t kNpyHeaderLimit = 10'000;

/// numpy's format of one array: "\x93NUMPY", version, length of a header, the header (a Python dictionary with descr,
/// fortran_order and shape as text), then the values.
struct NpyArray {
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  SharedBytes data;  ///< little-endian, C order; exactly the bytes of dtype and shape; may be unaligned for its type
};

/// Reads versions 1.0, 2.0 and 3.0 of a whole array in memory. Values in C order and little-endian point into `file`;
/// Fortran order and big-endian values are put in order in memory of their own.
/// @param where names file and array in errors
/// @throws Error failure naming expected and found: no array, pickled objects (which are never loaded), structured or
/// unknown types, sizes that do not fit the bytes that are there (nothing of a claimed size is allocated), truth values
/// other than 0 and 1
NpyArray parse_npy(const SharedBytes& file, const std::string& where);

/// The array whose header and values are known, in the same way.
/// @param values  all of them, in the header's order and type
/// @throws Error failure as parse_npy
NpyArray npy_array(NpyHeader header, const SharedBytes& values, const std::string& where);

/// Magic, version and header of an array in C order, a multiple of 64 bytes; the values follow.
/// @throws Error failure naming `where`: BF16, which numpy does not have, or too many dimensions
std::string npy_header(Dtype dtype, std::span<const int64_t> shape, const std::string& where);

/// "float32", as numpy calls it.
std::string_view numpy_name(Dtype dtype);

}  // namespace nextscale
