#pragma once

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/perceptual.h"

namespace nextscale::testing {

/// Puts weights into the entries of those names; every parameter must get one, buffers may stay as they are.
inline void put_weights(torch::nn::Module& module, const NamedTensors& weights) {
  const at::NoGradGuard no_grad;
  const auto entries = state_dict(module);
  for (const auto& [name, weight] : weights) {
    const auto entry = find_tensor(entries, name);
    ASSERT_TRUE(entry.defined()) << name;
    ASSERT_EQ(entry.sizes(), weight.sizes()) << name;
    entry.copy_(weight);
  }
  for (const auto& [name, parameter] : named_parameters(module)) {
    EXPECT_TRUE(find_tensor(weights, name).defined()) << name;
  }
}

/// How near float32 must come to what float64 computed, and float64 itself to what was stored in float32.
struct Nearness {
  double values;     ///< of the largest magnitude
  double gradients;  ///< relative L2
};

/// The stored quantities of one file. Carried ones may be the first rows, columns … of the whole; what a file lacks is
/// not compared, but nothing that it holds may stay uncompared.
class PerceptualFile {
 public:
  explicit PerceptualFile(const std::string& name)
      : expected_(read_weights(fixture_file("perceptual/" + name)).tensors) {}

  bool has_case(const std::string& prefix) const {
    return std::any_of(expected_.begin(), expected_.end(),
                       [&](const auto& entry) { return entry.first.starts_with(prefix + "/"); });
  }
  /// @param terms magnitude of what a sum was made of, which its rounding follows where terms cancel
  void value(const std::string& name, const at::Tensor& actual, const Nearness& near, double terms = 0) {
    compare(name, actual, [&](const at::Tensor& got, const at::Tensor& want) {
      const double magnitude = std::max(want.abs().max().item<double>(), terms);
      EXPECT_LE((got - want).abs().max().item<double>(), near.values * magnitude) << name;
    });
  }
  void gradient(const std::string& name, const at::Tensor& actual, const Nearness& near) {
    compare(name, actual, [&](const at::Tensor& got, const at::Tensor& want) {
      EXPECT_LE((got - want).norm().item<double>(), near.gradients * want.norm().item<double>()) << name;
    });
  }
  /// A gradient that is 0 in exact arithmetic.
  void nothing(const std::string& name, const at::Tensor& actual) {
    compare(name, actual,
            [&](const at::Tensor& got, const at::Tensor&) { EXPECT_LT(got.abs().max().item<double>(), 1e-4) << name; });
  }
  /// Says how many were compared and fails for those of the case that were not.
  void end_case(const std::string& prefix) {
    size_t compared = 0;
    for (const auto& [name, tensor] : expected_) {
      if (!name.starts_with(prefix + "/")) continue;
      EXPECT_EQ(compared_.count(name), 1U) << name << " was not compared";
      ++compared;
    }
    std::printf("compared %s: %zu quantities\n", prefix.c_str(), compared);
    ended_ += compared;
  }
  size_t ended() const { return ended_; }

 private:
  template <typename Check>
  void compare(const std::string& name, const at::Tensor& actual, const Check& check) {
    const auto want = find_tensor(expected_, name);
    if (!want.defined()) return;
    compared_.insert(name);
    auto got = actual.detach();
    ASSERT_EQ(got.dim(), want.dim()) << name;
    for (int64_t d = 0; d < want.dim(); ++d) {
      ASSERT_GE(got.size(d), want.size(d)) << name;
      got = got.slice(d, 0, want.size(d));
    }
    check(got.to(at::kDouble), want.to(at::kDouble));
  }

  NamedTensors expected_;
  std::set<std::string> compared_;
  size_t ended_ = 0;
};

}  // namespace nextscale::testing
