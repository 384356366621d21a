#include "nextscale/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "nextscale/base/error.h"
#include "nextscale/train/progressive.h"

namespace nextscale {
namespace {

const std::vector<std::string> kSchedules = {"cos", "lin", "lin0", "lin00", "lin0.3", "lin1", "lin0.0", "exp"};

TEST(Schedule, RisesFromTheStartToThePeakAndEndsAtLrEnd) {
  for (const auto& schedule : kSchedules) {
    const ScheduleOptions options{
        .lr = 2.0, .schedule = schedule, .warmup = 0.1, .warmup_start = 0.25, .lr_end = 0.125};
    EXPECT_DOUBLE_EQ(rates_at(options, 0, 100).lr, 0.5) << schedule;
    EXPECT_DOUBLE_EQ(rates_at(options, 5, 100).lr, 2.0 * (0.25 + 0.75 * 0.5)) << schedule;
    if (schedule != "lin0.0") {  // two lines that meet at once: the reference begins it below the peak
      EXPECT_DOUBLE_EQ(rates_at(options, 10, 100).lr, 2.0) << schedule;
    }
    EXPECT_NEAR(rates_at(options, 99, 100).lr, 0.25, 1e-12) << schedule;
  }
}

TEST(Schedule, IsFiniteAndWithinItsBoundsForAnyRun) {
  EXPECT_TRUE(rc::check([] {
    const auto share = [] { return *rc::gen::inRange(0, 101) / 100.0; };
    const ScheduleOptions options{.lr = 1e-3,
                                  .weight_decay = 0.05,
                                  .weight_decay_end = *rc::gen::element(0.0, 0.01, 0.2),
                                  .schedule = *rc::gen::elementOf(kSchedules),
                                  .warmup = share(),
                                  .warmup_start = share(),
                                  .lr_end = share()};
    const auto steps = *rc::gen::inRange<int64_t>(1, 50);
    for (int64_t step = 0; step <= steps; ++step) {
      const auto rates = rates_at(options, step, steps);
      const double least = std::min(options.warmup_start, options.lr_end) * options.lr;
      RC_ASSERT(rates.lr >= least * (1 - 1e-9) - 1e-18 && rates.lr <= options.lr * (1 + 1e-9));
      RC_ASSERT(rates.weight_decay >= 0.01 - 1e-12 && rates.weight_decay <= 0.2 + 1e-12);
    }
  }));
}

TEST(Schedule, AWarmUpAsLongAsTheRunReachesThePeakInTheLastStep) {
  const ScheduleOptions options{.lr = 1.0, .warmup = 1.0, .warmup_start = 0.0};
  EXPECT_DOUBLE_EQ(rates_at(options, 0, 11).lr, 0.0);
  EXPECT_DOUBLE_EQ(rates_at(options, 10, 11).lr, 1.0);
  EXPECT_DOUBLE_EQ(rates_at(options, 0, 1).lr, 1.0);
}

TEST(Schedule, WeightDecayIsConstantOrFallsByACosine) {
  ScheduleOptions options{.weight_decay = 0.08};
  EXPECT_DOUBLE_EQ(rates_at(options, 50, 101).weight_decay, 0.08);
  options.weight_decay_end = 0.02;
  EXPECT_DOUBLE_EQ(rates_at(options, 0, 101).weight_decay, 0.08);
  EXPECT_DOUBLE_EQ(rates_at(options, 50, 101).weight_decay, 0.05);
  EXPECT_DOUBLE_EQ(rates_at(options, 100, 101).weight_decay, 0.02);
}

TEST(Schedule, AnUnknownNameIsAnErrorOfUsage) {
  for (const std::string name : {"", "cosine", "lin-1", "lin1.5", "linx", "lin0.3x", "linnan", "Lin0", "expo"}) {
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { check_together(ScheduleOptions{.schedule = name}); },
             [&] { rates_at(ScheduleOptions{.schedule = name}, 0, 10); },  // in the warm-up too
         }) {
      try {
        call();
        ADD_FAILURE() << name;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::usage);
        EXPECT_NE(std::string(error.what()).find("--schedule"), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Progressive, AStageDependsOnTheStepAloneAndGrows) {
  const ProgressiveOptions options{.share = 0.8, .first_scale = 1, .warmup_steps = 7, .stage_warmup_steps = 5};
  int64_t before = 1;
  int64_t in_stage = 0;
  for (int64_t step = 0; step < 200; ++step) {
    const auto stage = progressive_stage(options, step, 200, 6);
    in_stage = stage.newest_scale == before ? in_stage + 1 : 1;
    EXPECT_TRUE(stage.newest_scale == before || stage.newest_scale == before + 1);
    before = stage.newest_scale;
    EXPECT_DOUBLE_EQ(stage.newest_weight, before == 1 ? 1.0 : std::min(1.0, in_stage / 5.0)) << step;
  }
  EXPECT_EQ(before, 5);
}

}  // namespace
}  // namespace nextscale
