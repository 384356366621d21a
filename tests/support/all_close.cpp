#include "nextscale/tests/support/all_close.h"

#include <cmath>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale::testing {

::testing::AssertionResult all_close(const at::Tensor& actual, const at::Tensor& expected, const Tolerance& tolerance) {
  if (!actual.defined() || !expected.defined()) {
    return ::testing::AssertionFailure() << (actual.defined() ? "expected" : "actual") << " tensor is undefined";
  }
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << "shape differs: " << shape_text(actual.sizes()) << ", expected "
                                         << shape_text(expected.sizes());
  }
  const auto a = actual.detach().to(at::kCPU, at::kDouble).contiguous().view({-1});
  const auto e = expected.detach().to(at::kCPU, at::kDouble).contiguous().view({-1});
  const auto* av = a.data_ptr<double>();
  const auto* ev = e.data_ptr<double>();
  int64_t differing = 0;
  int64_t worst_at = -1;
  double worst = -1;
  for (int64_t i = 0; i < a.numel(); ++i) {
    if (av[i] == ev[i] || (std::isnan(av[i]) && std::isnan(ev[i]))) continue;
    const double allowed = tolerance.absolute + tolerance.relative * std::abs(ev[i]);
    const double distance = std::abs(av[i] - ev[i]);
    if (distance <= allowed) continue;  // NaN fails
    ++differing;
    const double excess = std::isnan(distance) ? INFINITY : distance;
    if (excess > worst) {
      worst = excess;
      worst_at = i;
    }
  }
  if (differing == 0) return ::testing::AssertionSuccess();
  const double allowed = tolerance.absolute + tolerance.relative * std::abs(ev[worst_at]);
  return ::testing::AssertionFailure() << fmt::format(
             "{} of {} differ; worst at flat index {}: {}, expected {} (allowed {})", differing, a.numel(), worst_at,
             av[worst_at], ev[worst_at], allowed);
}

}  // namespace nextscale::testing
