#pragma once

#include "nextscale/io/numpy_pickle.h"
#include "nextscale/tests/fuzz/one_input.h"

namespace nextscale::testing {

inline bool one_numpy_pickle(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    int sum = 0;
    for (const auto& entry : parse_numpy_pickle({nullptr, input}, "input")) sum += touch(entry.array.data.bytes);
    return sum;
  });
}

}  // namespace nextscale::testing
