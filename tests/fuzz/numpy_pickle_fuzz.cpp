#include <cstdint>

#include "nextscale/tests/fuzz/one_numpy_pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nextscale::testing::one_numpy_pickle(std::as_bytes(std::span(data, size)));
  return 0;
}
