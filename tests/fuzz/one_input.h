#pragma once

#include <cstddef>
#include <span>

#include "nextscale/base/error.h"
#include "nextscale/io/archive.h"
#include "nextscale/io/idx.h"
#include "nextscale/io/safetensors.h"

/// What a fuzzer does with one input, once for libFuzzer's programs and for the tests that mutate and replay: reading
/// gives a result whose every byte can be touched, or nextscale::Error. Anything else is a defect and gets out.
namespace nextscale::testing {

/// Reads every byte, so that a sanitizer sees a span that leaves its memory.
inline int touch(std::span<const std::byte> bytes) {
  int sum = 0;
  for (const auto byte : bytes) sum += static_cast<int>(byte);
  return sum;
}

/// @returns true if the input was read, false if it was refused
template <class Read>
bool read_or_refuse(const Read& read) {
  [[maybe_unused]] static volatile int sink = 0;  // keeps the compiler from leaving out the reads
  try {
    sink = read();
    return true;
  } catch (const Error&) {
    return false;
  }
}

inline bool one_safetensors(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    int sum = 0;
    for (const auto& entry : parse_safetensors(input, "input").entries) sum += touch(entry.data);
    return sum;
  });
}

inline bool one_idx(std::span<const std::byte> input) {
  return read_or_refuse([&] { return touch(parse_idx({nullptr, input}, "input").data.bytes); });
}

inline bool one_tar(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    const TarIndex index(SharedBytes{nullptr, input}, "input");
    int sum = 0;
    for (int64_t i = 0; i < index.size(); ++i) sum += touch(index.bytes(i));
    return sum;
  });
}

}  // namespace nextscale::testing
