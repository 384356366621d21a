#include <cstdint>

#include "one_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nextscale::testing::one_metrics(std::as_bytes(std::span(data, size)));
  return 0;
}
