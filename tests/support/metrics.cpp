#include "nextscale/tests/support/metrics.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"

namespace nextscale::testing {

at::Tensor normal(const std::vector<int64_t>& sizes, uint64_t seed) {
  auto generator = make_generator(seed);
  return at::randn(sizes, generator, at::kDouble);
}

void Held::add(const Interval& interval, double truth) {
  EXPECT_LE(interval.low, interval.high);
  ++all_;
  held_ += interval.low <= truth && truth <= interval.high ? 1 : 0;
  below_ += interval.high < truth ? 1 : 0;
  width_ += interval.high - interval.low;
}

void Held::expect(const std::string& name, double level, double most) const {
  ASSERT_GT(all_, 0);
  const auto all = static_cast<double>(all_);
  const double share = static_cast<double>(held_) / all, room = 3.9 * std::sqrt(level * (1 - level) / all);
  fmt::print("{}: {} of {} intervals hold ({} lie below), mean width {:.4g}\n", name, held_, all_, below_,
             width_ / all);
  EXPECT_GE(share, level - room) << name;
  EXPECT_LE(share, std::max(std::min(level + room, 1.0), most)) << name;
}

}  // namespace nextscale::testing
