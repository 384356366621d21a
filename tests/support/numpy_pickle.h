#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nextscale::testing {

/// Puts pickles of numpy arrays together (protocol 3) as numpy 1 writes them; each part can be another one.
struct PickledArray {
  std::vector<int64_t> shape;  ///< sizes below 65536
  std::string bytes;
  std::string code = "f4", order = "<";
  bool fortran_order = false;
  std::string maker = "numpy.core.multiarray\n_reconstruct";  ///< module and name of what would be called
};

inline std::string little_endian_bytes(uint64_t value, size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

inline std::string pickled_text(std::string_view text) {
  return "X" + little_endian_bytes(text.size(), 4) + std::string(text);
}

inline std::string pickled(const PickledArray& array) {
  std::string shape = "(";
  for (const auto size : array.shape) shape += "M" + little_endian_bytes(static_cast<uint64_t>(size), 2);
  const std::string zero("K\0", 2), one("K\1"), minus_one("J\xff\xff\xff\xff");
  const auto empty = "c" + array.maker + "\ncnumpy\nndarray\n" + zero + "\x85" + "C\1b" + "\x87R";
  const auto type = "cnumpy\ndtype\n" + pickled_text(array.code) + zero + one + "\x87R" + "(K\3" +
                    pickled_text(array.order) + "NNN" + minus_one + minus_one + zero + "tb";
  return empty + "(" + one + shape + "t" + type + (array.fortran_order ? "\x88" : "\x89") + "B" +
         little_endian_bytes(array.bytes.size(), 4) + array.bytes + "tb";
}

/// A value and its key: an array, a list of arrays or whatever else was pickled.
struct PickledItem {
  std::string key, value;
};
inline std::string pickled_list(const std::vector<PickledArray>& arrays) {
  std::string list = "](";
  for (const auto& array : arrays) list += pickled(array);
  return list + "e";
}
inline std::string pickled_dict(const std::vector<PickledItem>& items) {
  std::string dict = "\x80\3}(";
  for (const auto& item : items) dict += pickled_text(item.key) + item.value;
  return dict + "u.";
}

}  // namespace nextscale::testing
