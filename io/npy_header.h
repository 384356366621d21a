#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nextscale {

/// What stands in an array's header.
struct NpyHeader {
  std::string descr;  ///< "<f4"
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

/// Takes the dictionary's text apart; nothing in it is evaluated.
/// @param where names file and array in errors
/// @throws Error failure: something else than one dictionary with exactly these three keys
NpyHeader parse_npy_header(std::string_view text, const std::string& where);

}  // namespace nextscale
