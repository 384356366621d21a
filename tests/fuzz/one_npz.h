#pragma once

#include "nextscale/io/npz.h"
#include "nextscale/tests/fuzz/one_input.h"

namespace nextscale::testing {

/// An archive of arrays, or a single array. Twice: without checksums, so that mutated content reaches the parser, and
/// as readers do.
inline bool one_npz(std::span<const std::byte> input) {
  const auto read_all = [&](ZipChecksums checksums) {
    return read_or_refuse([&] {
      const SharedBytes file{nullptr, input};
      if (as_text(input).starts_with("\x93NUMPY")) return touch(parse_npy(file, "input").data.bytes);
      NpzFile npz(file, "input");
      int sum = 0;
      for (const auto& name : npz.names()) sum += touch(npz.array(name, checksums).data.bytes);
      return sum;
    });
  };
  read_all(ZipChecksums::never);
  return read_all(ZipChecksums::always);
}

}  // namespace nextscale::testing
