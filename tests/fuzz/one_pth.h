#pragma once

#include <cstddef>
#include <span>

#include "nextscale/io/pth.h"
#include "nextscale/tests/fuzz/one_input.h"

namespace nextscale::testing {

/// Checksums are left out: hardly a changed archive would pass them, and nothing behind them would be tried.
inline bool one_pth(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    int sum = 0;
    for (const auto& entry : parse_pth({nullptr, input}, "input", ZipChecksums::never).tensors) {
      sum += touch(entry.tensor.data());
    }
    return sum;
  });
}

}  // namespace nextscale::testing
