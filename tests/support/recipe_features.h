#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

namespace nextscale::testing {

/// One named set of the fixtures' feature recipe (float32): rules `tensor`, `grid` and `mixed`, then what `then` says.
/// @throws std::runtime_error for a rule or an afterthought that is not known
at::Tensor recipe_features(const nlohmann::json& entry);

struct FeaturePair {
  at::Tensor reference, generated;  // x and y: (n, D), (m, D) float32
};

/// Every pair of sets that the expected metrics name, made from evaluate/recipe.json's `feature_sets`.
std::map<std::string, FeaturePair> recipe_feature_pairs(const nlohmann::json& feature_sets);

}  // namespace nextscale::testing
