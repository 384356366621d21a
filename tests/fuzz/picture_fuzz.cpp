#include <cstdint>

#include "one_picture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nextscale::testing::one_picture(std::as_bytes(std::span(data, size)));
  return 0;
}
