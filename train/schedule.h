#pragma once

#include <cstdint>
#include <string>

#include "nextscale/base/options.h"

namespace nextscale {

/// Learning rate and weight decay over a run (reference utils/lr_control.py lr_wd_annealing).
struct ScheduleOptions {
  double lr = 1e-4;  // peak
  double weight_decay = 0.05;
  double weight_decay_end = 0.0;  // 0 = stays at weight_decay
  std::string schedule = "lin0";  // cos, lin, lin0, lin00, lin<T> (e.g. lin0.2), exp
  double warmup = 0.02;           // share of the steps
  double warmup_start = 0.005;    // first lr in peaks
  double lr_end = 0.01;           // last lr in peaks (the reference's wpe)

  static constexpr auto table() {
    using O = ScheduleOptions;
    return std::tuple{
        option("lr", &O::lr, "peak learning rate", between(0.0, 10.0)),
        option("weight_decay", &O::weight_decay, "weight decay of matrices", between(0.0, 10.0)),
        option("weight_decay_end", &O::weight_decay_end, "weight decay at the end, cosine in between; 0 = constant",
               between(0.0, 10.0)),
        option("schedule", &O::schedule,
               "learning rate after the warm-up: cos, lin, lin0, lin00, lin<T> (flat until share T), exp"),
        option("warmup", &O::warmup, "share of the steps in which the rate rises", between(0.0, 1.0)),
        option("warmup_start", &O::warmup_start, "rate of the first step, in peaks", between(0.0, 1.0)),
        option("lr_end", &O::lr_end, "rate of the last step, in peaks", between(0.0, 1.0)),
    };
  }
};

struct Rates {
  double lr;
  double weight_decay;
};

/// @throws Error usage for an unknown schedule or a T outside [0, 1]
void check_together(const ScheduleOptions& options);

/// The reference's formula, all six schedules. Where the reference divides by zero (one step after the warm-up, a run
/// of one step, T = 1, an exponential end of 0) the value is the peak at the beginning of the fall and `lr_end` at its
/// end.
/// @param step 0-based @param warmup_steps wp_it, rounded half to even by the caller @param lr_end wpe, share of the
/// peak
/// @throws Error usage for an unknown schedule
Rates reference_rates(const std::string& schedule, double peak_lr, double wd, double wd_end, int64_t step,
                      int64_t warmup_steps, int64_t steps, double warmup_start, double lr_end);
/// Rates of a step of a run of `steps` steps; a warm-up of 0 steps or as long as the run is well-defined here. Steps
/// past the end keep the last step's rates.
Rates rates_at(const ScheduleOptions& options, int64_t step, int64_t steps);

}  // namespace nextscale
