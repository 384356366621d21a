#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include "nextscale/base/random.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/networks/dino_discriminator.h"
#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {

inline at::Tensor made_up(const std::string& name, const std::vector<int64_t>& shape) {
  return recipe_tensor("discriminator/" + name, shape, 1.0, 0.0);
}

inline at::Tensor entry(const torch::nn::Module& module, const std::string& name) {
  return find_tensor(state_dict(module), name);
}

/// Copies of the whole state.
inline NamedTensors copied(const torch::nn::Module& module) {
  NamedTensors copies;
  for (const auto& [name, tensor] : state_dict(module)) copies.emplace_back(name, tensor.detach().clone());
  return copies;
}

inline bool same(const torch::nn::Module& module, const NamedTensors& earlier) {
  for (const auto& [name, tensor] : earlier) {
    if (!entry(module, name).equal(tensor)) return false;
  }
  return true;
}

/// A transformer with everything DINO has, 16 tokens of 32 channels.
inline Dino small_trunk() {
  Dino trunk(DinoOptions{.side = 32, .patch = 8, .width = 32, .depth = 4, .heads = 2});
  for (auto& [name, tensor] : state_dict(*trunk)) {
    const bool is_norm_weight = name.find("norm") != std::string::npos && name.ends_with("weight");
    tensor.copy_(recipe_tensor("trunk/" + name, tensor.sizes().vec(), 0.25, is_norm_weight ? 1 : 0));
  }
  return trunk;
}

inline DinoDiscriminator small_dino(HeadNormKind norm = HeadNormKind::virtual_batch) {
  DinoDiscriminator network(small_trunk(), norm);
  network->initialise(make_generator(5));
  return network;
}

}  // namespace nextscale::testing
