#include "nextscale/tests/support/recipe_features.h"

#include <bit>
#include <stdexcept>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {
namespace {

using Shape = std::vector<int64_t>;

at::Tensor centred_integers(const std::string& name, const Shape& shape) {
  return recipe_integers(name, shape, 17).to(at::kDouble) - 8;
}

/// (A·B)/256 + E/16 + lift: low rank and noise, exact in float32.
at::Tensor mixed(const nlohmann::json& entry) {
  const auto name = entry.at("name").get<std::string>(), tag = name.substr(0, name.find('/'));
  const auto shape = entry.at("shape").get<Shape>();
  const auto rank = entry.at("rank").get<int64_t>();
  const auto a = centred_integers(name + "/a", {shape[0], rank});
  const auto b = centred_integers(tag + "/features/" + tag + "/basis", {rank, shape[1]});
  const auto e = recipe_integers(name + "/e", shape, 17).to(at::kDouble);
  return (a.mm(b) / 256 + e / 16 + entry.at("lift").get<double>()).to(at::kFloat);
}

at::Tensor by_rule(const nlohmann::json& entry) {
  const auto rule = entry.at("rule").get<std::string>(), name = entry.at("name").get<std::string>();
  const auto shape = entry.at("shape").get<Shape>();
  if (rule == "tensor") {
    return recipe_tensor(name, shape, entry.at("scale").get<double>(), entry.at("offset").get<double>());
  }
  if (rule == "grid") {
    return recipe_integers(name, shape, entry.at("high").get<int64_t>()).to(at::kFloat) /
           entry.at("divisor").get<int64_t>();
  }
  if (rule == "mixed") return mixed(entry);
  throw std::runtime_error("recipe rule " + rule);
}

/// Columns 1 … 16 of the Sylvester-Hadamard matrix of 64 rows: orthogonal, mean 0.
at::Tensor hadamard_columns() {
  auto columns = at::empty({64, 16}, at::kFloat);
  auto* values = columns.data_ptr<float>();
  for (uint32_t i = 0; i < 64; ++i) {
    for (uint32_t j = 1; j <= 16; ++j) *values++ = std::popcount(i & j) % 2 == 0 ? 1 : -1;
  }
  return columns;
}

}  // namespace

at::Tensor recipe_features(const nlohmann::json& entry) {
  auto rows = by_rule(entry);
  const auto then = entry.value("then", "");
  if (then == "max(0, .)") return rows.clamp_min(0);
  if (then == "row i, column i // 2: + 12") {
    const auto i = at::arange(rows.size(0));
    rows.index_put_({i, i.div(2, "floor")}, at::full({1}, 12.0F), /*accumulate=*/true);
    return rows;
  }
  if (!then.empty()) throw std::runtime_error("recipe afterthought " + then);
  return rows;
}

std::map<std::string, FeaturePair> recipe_feature_pairs(const nlohmann::json& feature_sets) {
  const auto set = [&](const std::string& name) { return recipe_features(feature_sets.at(name)); };
  const auto grid = set("grid"), hadamard = hadamard_columns();
  const auto columns = [&](int64_t begin, int64_t end) { return grid.slice(1, begin, end); };
  const auto rows = [&](int64_t begin, int64_t end) { return grid.slice(0, begin, end).slice(1, 0, 4); };
  const auto steps = 0.25 * at::arange(32).remainder(5).to(at::kFloat);
  const auto j = at::arange(16).to(at::kFloat);
  const auto uniform_x = set("uniform_x"), uniform_y = set("uniform_y");
  const auto mixed_x = set("mixed_x"), mixed_y = set("mixed_y");
  const auto diagonal_x = hadamard * (1 + j / 8);
  auto clusters = uniform_y.clone();
  clusters.slice(0, 0, std::nullopt, 2).add_(4);
  return {
      {"uniform", {uniform_x, uniform_y}},
      {"identical", {uniform_x, uniform_x}},
      {"mixed", {mixed_x, mixed_y}},
      {"deficient", {set("deficient_x"), set("deficient_y")}},
      {"spatial", {set("spatial_x"), set("spatial_y")}},
      {"shifted", {grid, grid + steps}},
      {"doubled", {grid, 2 * grid}},
      {"diagonal", {diagonal_x, hadamard * (2 - j / 16) + 0.5}},
      {"constant", {at::full({50, 8}, 3.5F), at::full({40, 8}, 1.25F)}},
      {"constant_and_spread", {at::full({50, 16}, 0.5F), diagonal_x}},
      {"one_dimension", {columns(0, 1), 0.5 * columns(1, 2)}},
      {"two_rows", {rows(0, 2), rows(2, 4)}},
      {"duplicate_columns",
       {at::cat({columns(0, 6), columns(0, 6)}, 1), at::cat({columns(6, 12), columns(12, 18)}, 1)}},
      {"two_clusters", {uniform_x, clusters}},
      {"large", {mixed_x * 64, mixed_y * 64}},
  };
}

}  // namespace nextscale::testing
