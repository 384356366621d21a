#include "nextscale/train/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

/// T of "lin<T>", the share of the time after the warm-up until which the rate falls slowly.
std::optional<double> slow_share(const std::string& schedule) {
  if (schedule.rfind("lin", 0) != 0) return std::nullopt;
  double share = 0;
  const char* end = schedule.data() + schedule.size();
  const auto result = std::from_chars(schedule.data() + 3, end, share);
  const bool fits = result.ec == std::errc() && result.ptr == end && share >= 0.0 && share <= 1.0;
  return fits ? std::optional(share) : std::nullopt;
}

bool is_schedule(const std::string& name) {
  return name == "cos" || name == "lin" || name == "lin0" || name == "lin00" || name == "exp" || slow_share(name);
}

Error unknown_schedule(const std::string& name) {
  return usage(
      {"--schedule", "unknown", "cos, lin, lin0, lin00, exp or lin<T> with T between 0 and 1", "'" + name + "'"});
}

/// Part of the fall that is left, 1 where it begins (after the share `flat`) and 0 at the end.
double rest_share(double passed, double flat) { return flat < 1 ? (1 - passed) / (1 - flat) : 0; }

/// The rate after the warm-up in units of the peak. @param passed 0 at the end of the warm-up, 1 at the last step
double falling_rate(const std::string& schedule, double passed, double end) {
  if (schedule == "cos") return end + (1 - end) * (0.5 + 0.5 * std::cos(std::numbers::pi * passed));
  if (schedule == "lin00") return end + (1 - end) * (1 - passed);
  if (schedule == "lin" || schedule == "lin0") {
    const double flat = schedule == "lin" ? 0.15 : 0.05;
    return passed < flat ? 1 : end + (1 - end) * rest_share(passed, flat);
  }
  if (schedule == "exp") {
    constexpr double kFlat = 0.15;
    // An exponential never reaches 0; the reference has no answer for an end of 0.
    return passed < kFlat ? 1 : std::exp((1 - rest_share(passed, kFlat)) * std::log(std::max(end, 1e-12)));
  }
  const auto slow = slow_share(schedule);
  if (!slow) throw unknown_schedule(schedule);
  // Two lines that meet half-way between the peak and where one straight line would be at T.
  const double middle = (1 + end + (1 - end) * (1 - *slow)) / 2;
  return passed < *slow ? 1 + (middle - 1) * passed / *slow : end + (middle - end) * rest_share(passed, *slow);
}

}  // namespace

void check_together(const ScheduleOptions& options) {
  if (!is_schedule(options.schedule)) throw unknown_schedule(options.schedule);
}

Rates reference_rates(const std::string& schedule, double peak_lr, double wd, double wd_end, int64_t step,
                      int64_t warmup_steps, int64_t steps, double warmup_start, double lr_end) {
  if (!is_schedule(schedule)) throw unknown_schedule(schedule);
  const auto share = [](int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  };
  const double rate = step < warmup_steps
                          ? warmup_start + (1 - warmup_start) * share(step, warmup_steps)
                          : falling_rate(schedule, share(step - warmup_steps, steps - 1 - warmup_steps), lr_end);
  const double passed = share(step, steps - 1);
  return {.lr = rate * peak_lr,
          .weight_decay = wd_end + (wd - wd_end) * (0.5 + 0.5 * std::cos(std::numbers::pi * passed))};
}

Rates rates_at(const ScheduleOptions& options, int64_t step, int64_t steps) {
  const auto last = std::max<int64_t>(steps - 1, 0);
  // llrint rounds half to even, as Python's round does.
  const int64_t warmup = std::min<int64_t>(std::llrint(options.warmup * static_cast<double>(steps)), last);
  const double end = options.weight_decay_end > 0 ? options.weight_decay_end : options.weight_decay;
  return reference_rates(options.schedule, options.lr, options.weight_decay, end, std::clamp<int64_t>(step, 0, last),
                         warmup, steps, options.warmup_start, options.lr_end);
}

}  // namespace nextscale
