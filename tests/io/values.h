#pragma once

#include <cstddef>
#include <cstring>
#include <numeric>
#include <vector>

#include "nextscale/io/npy.h"

namespace nextscale::testing {

/// 0, 1, 2, …
template <class Value>
std::vector<Value> counted(size_t count) {
  std::vector<Value> values(count);
  std::iota(values.begin(), values.end(), Value{0});
  return values;
}

/// Those of an array whose type is Value's.
template <class Value>
std::vector<Value> values_of(const NpyArray& array) {
  std::vector<Value> values(array.data.bytes.size() / sizeof(Value));
  if (!values.empty()) std::memcpy(values.data(), array.data.bytes.data(), array.data.bytes.size());
  return values;
}

}  // namespace nextscale::testing
