#include "nextscale/tests/support/perceptual.h"

#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/io/weights.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {
namespace {

at::Tensor made(const std::string& name, const nlohmann::json& entry) {
  const auto shape = entry.at("shape").get<std::vector<int64_t>>();
  if (entry.contains("integers_below")) return recipe_integers(name, shape, entry.at("integers_below").get<int64_t>());
  return recipe_tensor(name, shape, entry.at("scale").get<double>(), entry.at("offset").get<double>());
}

bool same_shape(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_EQ(actual.sizes(), expected.sizes());
  return actual.sizes() == expected.sizes();
}

}  // namespace

PerceptualFixture::PerceptualFixture(const std::string& file)
    : cases_(fixture_table("perceptual/cases.json")), recipe_(fixture_table("perceptual/recipe.json")) {
  if (!file.empty()) expected_ = read_weights(fixture_file("perceptual/" + file + ".safetensors")).tensors;
}

at::Tensor PerceptualFixture::input(const std::string& name) const {
  const auto whole = "perceptual/input/" + name;
  return made(whole, recipe_.at("inputs").at(whole));
}

NamedTensors PerceptualFixture::weights(const std::string& network, const std::string& prefix) const {
  NamedTensors weights;
  for (const auto& [name, entry] : recipe_.at("networks").at(network).items()) {
    if (!name.starts_with(prefix)) continue;
    weights.emplace_back(name.substr(prefix.size()), made("perceptual/" + network + "/" + name, entry));
  }
  return weights;
}

double relative_to_largest(const at::Tensor& actual, const at::Tensor& expected) {
  if (!same_shape(actual, expected)) return 1;
  const auto difference = (actual.detach().to(at::kDouble) - expected.to(at::kDouble)).abs().max();
  return (difference / expected.to(at::kDouble).abs().max()).item<double>();
}

double relative_l2(const at::Tensor& actual, const at::Tensor& expected) {
  if (!same_shape(actual, expected)) return 1;
  const auto wanted = expected.to(at::kDouble);
  return ((actual.detach().to(at::kDouble) - wanted).norm() / wanted.norm()).item<double>();
}

}  // namespace nextscale::testing
