#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nextscale::testing {

/// The fixtures' weight recipe: value i of tensor `name` from FNV-1a and splitmix64 alone, so that no weights are
/// stored.
at::Tensor recipe_tensor(const std::string& name, const std::vector<int64_t>& shape, double scale, double offset);
/// int64 in [0, high)
at::Tensor recipe_integers(const std::string& name, const std::vector<int64_t>& shape, int64_t high);
uint64_t recipe_hash(const std::string& name);

}  // namespace nextscale::testing
