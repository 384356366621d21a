#include "nextscale/tests/support/recipe.h"

#include <ATen/ATen.h>

namespace nextscale::testing {
namespace {

uint64_t splitmix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

uint64_t word(uint64_t hash, int64_t i) {
  return splitmix64(hash + (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15ULL);
}

}  // namespace

uint64_t recipe_hash(const std::string& name) {
  uint64_t h = 0xCBF29CE484222325ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return h;
}

at::Tensor recipe_tensor(const std::string& name, const std::vector<int64_t>& shape, double scale, double offset) {
  auto tensor = at::empty(shape, at::kFloat);
  auto* values = tensor.data_ptr<float>();
  const uint64_t hash = recipe_hash(name);
  const auto scale32 = static_cast<double>(static_cast<float>(scale));
  const auto offset32 = static_cast<double>(static_cast<float>(offset));
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const double u = static_cast<double>(word(hash, i) >> 40) * 0x1p-23 - 1.0;
    values[i] = static_cast<float>(offset32 + scale32 * u);
  }
  return tensor;
}

at::Tensor recipe_integers(const std::string& name, const std::vector<int64_t>& shape, int64_t high) {
  auto tensor = at::empty(shape, at::kLong);
  auto* values = tensor.data_ptr<int64_t>();
  const uint64_t hash = recipe_hash(name);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    values[i] = static_cast<int64_t>((word(hash, i) >> 11) % static_cast<uint64_t>(high));
  }
  return tensor;
}

}  // namespace nextscale::testing
