#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace nextscale::testing {

struct Tolerance {
  double relative = 0;
  double absolute = 0;
};

/// Whole tensors with one message: "2 of 6 differ; worst at flat index 0: nan, expected 0 (allowed 1e-06)". NaN differs
/// from everything but NaN; dtypes are compared as float64 (integers exactly).
::testing::AssertionResult all_close(const at::Tensor& actual, const at::Tensor& expected,
                                     const Tolerance& tolerance = {});

}  // namespace nextscale::testing
