#include "nextscale/train/progressive.h"

#include <algorithm>
#include <cmath>

namespace nextscale {
namespace {

int64_t newest_scale(const ProgressiveOptions& options, int64_t step, int64_t steps, int64_t scales) {
  if (options.share <= 0) return -1;
  const double last_stage = static_cast<double>(steps) * options.share;
  const auto at = static_cast<double>(step);
  if (at <= options.warmup_steps) return options.first_scale;
  if (at >= last_stage) return scales - 1;
  const double passed = std::clamp((at - options.warmup_steps) / (last_stage - options.warmup_steps), 0.0, 1.0);
  // Rounded half to even, as Python's round does.
  return options.first_scale + std::llrint(passed * static_cast<double>(scales - 1 - options.first_scale));
}

}  // namespace

ProgressiveStage progressive_stage(const ProgressiveOptions& options, int64_t step, int64_t steps, int64_t scales) {
  const int64_t newest = newest_scale(options, step, steps, scales);
  // Stages only grow, so the first step of this one is found by halving.
  int64_t begin = 0;
  for (int64_t end = step; begin < end;) {
    const int64_t middle = begin + (end - begin) / 2;
    if (newest_scale(options, middle, steps, scales) == newest) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  // The first stage needs no rise of its own: the learning rate's warm-up covers it.
  if (begin == 0 || options.stage_warmup_steps <= 0) return {.newest_scale = newest, .newest_weight = 1};
  const double risen = static_cast<double>(step - begin + 1) / options.stage_warmup_steps;
  return {.newest_scale = newest, .newest_weight = std::clamp(risen, 0.01, 1.0)};
}

}  // namespace nextscale
