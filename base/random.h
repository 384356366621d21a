#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace nextscale {

/// A CPU generator with the reference's stream: the same seed draws what `torch.Generator().manual_seed(seed)` draws.
at::Generator make_generator(uint64_t seed);
/// Of any device: a GPU draws what a generator of it with that seed draws in Python.
at::Generator make_generator(uint64_t seed, const c10::Device& device);

/// A seed for part `index` of a job with seed `seed`: streams of different parts do not overlap by adding one.
/// splitmix64 of both; index 0 is not the seed itself.
uint64_t derived_seed(uint64_t seed, uint64_t index);

/// Whole state of a CPU generator as uint8 (5056); a generator that is given it goes on exactly there.
at::Tensor generator_state(const at::Generator& generator);
/// @throws Error if the state is not one of a CPU generator
void set_generator_state(at::Generator& generator, const at::Tensor& state);

}  // namespace nextscale
