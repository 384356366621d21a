#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/intervals.h"
#include "nextscale/tests/support/message_of.h"

namespace nextscale::testing {

/// Standard normal float64 values of a seed.
at::Tensor normal(const std::vector<int64_t>& sizes, uint64_t seed);

/// How often an interval held the truth, and how wide it was, over repetitions with fixed seeds.
class Held {
 public:
  void add(const Interval& interval, double truth);
  /// Prints both; EXPECTs a share that repetitions at true coverage `level` give with all but 1e-4 probability (normal
  /// approximation), or any up to `most` where the method is known to be wider than needed.
  void expect(const std::string& name, double level, double most = 0) const;

 private:
  int64_t held_ = 0, all_ = 0, below_ = 0;  // below: the interval lies below the truth
  double width_ = 0;
};

}  // namespace nextscale::testing
