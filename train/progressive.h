#pragma once

#include <cstdint>

namespace nextscale {

/// Progressive training: the first share of a run trains only the coarse scales, one more from stage to stage
/// (reference train.py `prog_si` and trainer.py `prog_wp`).
struct ProgressiveOptions {
  double share = 0;               ///< share of the run until all scales are trained (pg); 0 = all scales throughout
  int64_t first_scale = 4;        ///< newest scale of the first stage, 0-based (pg0)
  double warmup_steps = 0;        ///< steps before the first stage may end: the learning rate's warm-up (wp_it)
  double stage_warmup_steps = 0;  ///< steps in which the newest scale's loss weight rises (pgwp * steps per epoch)
};

struct ProgressiveStage {
  int64_t newest_scale;  ///< trained are scales 0 … newest_scale; -1 without progressive training
  double newest_weight;  ///< factor on the newest scale's loss weights, in [0.01, 1]; 1 throughout the first stage
};

/// The stage of a step depends on the step alone, so a resumed run needs no counter (the reference counts calls).
/// @param step 0-based @param steps length of the run @param scales K
ProgressiveStage progressive_stage(const ProgressiveOptions& options, int64_t step, int64_t steps, int64_t scales);

}  // namespace nextscale
