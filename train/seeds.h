#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Device.h>

#include "nextscale/base/random.h"

namespace nextscale {

/// What a trainer draws for; each purpose has a stream of its own. Written into results: never renumber.
enum class Purpose : uint64_t {
  initial_weights = 1001,
  label_drop = 1002,
  dropout = 1003,
  quantizer_dropout = 1004,
  codebook = 1005,
  discriminator_weights = 1006,
  seen_by_the_adversary = 1007,
};

inline uint64_t purpose_seed(int64_t seed, Purpose purpose, int64_t step = 0) {
  return derived_seed(derived_seed(static_cast<uint64_t>(seed), static_cast<uint64_t>(purpose)),
                      static_cast<uint64_t>(step));
}

/// A CPU generator for one purpose in one step. The step decides everything, so there is no generator state to save.
inline at::Generator purpose_generator(int64_t seed, Purpose purpose, int64_t step = 0) {
  return make_generator(purpose_seed(seed, purpose, step));
}

/// The same on a device, for masks that are drawn where they are used.
inline at::Generator purpose_generator_on(const c10::Device& device, int64_t seed, Purpose purpose, int64_t step) {
  if (device.is_cpu()) return purpose_generator(seed, purpose, step);
  auto generator = at::detail::getCUDAHooks().getNewGenerator(device.index());
  generator.set_current_seed(purpose_seed(seed, purpose, step));
  return generator;
}

}  // namespace nextscale
