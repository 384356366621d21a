#pragma once

#include <string>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"

namespace nextscale::testing {

/// One file of expected values of the tokenizer's losses and of the networks that judge, with the recipe of inputs and
/// weights (fixtures perceptual/).
class PerceptualFixture {
 public:
  /// @param file "lpips" for perceptual/lpips.safetensors; empty: only cases and recipe
  explicit PerceptualFixture(const std::string& file);

  const nlohmann::json& cases() const { return cases_; }
  /// An input by what follows "perceptual/input/": float32, or int64 where the recipe says integers.
  at::Tensor input(const std::string& name) const;
  /// Recipe weights of a network, by state-dict name.
  /// @param prefix what these have in front in the recipe; others are left out
  NamedTensors weights(const std::string& network, const std::string& prefix = "") const;
  const NamedTensors& all() const { return expected_; }
  bool has(const std::string& name) const { return find_tensor(expected_, name).defined(); }
  /// Undefined where the file lacks it: reduced sets leave out what is large.
  at::Tensor expected(const std::string& name) const { return find_tensor(expected_, name); }

 private:
  nlohmann::json cases_, recipe_;
  NamedTensors expected_;
};

/// Largest difference in shares of the largest expected magnitude.
double relative_to_largest(const at::Tensor& actual, const at::Tensor& expected);
/// |actual - expected| / |expected|; 1 for other shapes, which are an EXPECT's failure too.
double relative_l2(const at::Tensor& actual, const at::Tensor& expected);

}  // namespace nextscale::testing
