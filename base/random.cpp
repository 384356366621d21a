#include "nextscale/base/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include "nextscale/base/error.h"

namespace nextscale {

at::Generator make_generator(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

at::Generator make_generator(uint64_t seed, const c10::Device& device) {
  if (device.is_cpu()) return make_generator(seed);
  auto generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

uint64_t derived_seed(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

at::Tensor generator_state(const at::Generator& generator) {
  at::Generator shared = generator;  // a handle; the lock is not const
  const std::lock_guard<std::mutex> lock(shared.mutex());
  return shared.get_state();
}

void set_generator_state(at::Generator& generator, const at::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  try {
    generator.set_state(state.cpu().contiguous());
  } catch (const c10::Error&) {
    throw failure({.where = "generator state",
                   .what = "cannot be restored",
                   .expected = "5056 bytes of a CPU generator",
                   .got = shape_text(state.sizes())});
  }
}

}  // namespace nextscale
