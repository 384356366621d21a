#pragma once

#include <cstdint>

#include <torch/nn/module.h>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// How the decay grows: min(decay, (1 + n) / (10 + n)), n counting steps or, as the authors' tokenizer trainer does,
/// pairs of steps.
enum class EmaWarmup { in_steps, in_pairs };

/// Exponential moving average of a module's parameters; buffers are copied.
class Ema {
 public:
  Ema(const torch::nn::Module& module, double decay, EmaWarmup warmup = EmaWarmup::in_steps);
  /// @param step 0-based, the optimizer step that has just been taken
  void update(const torch::nn::Module& module, int64_t step);
  /// State dict with the averaged values, in the order of state_dict(module).
  const NamedTensors& weights() const { return weights_; }
  /// @throws Error failure naming `where` and the entry (missing, extra, another shape), before anything was changed
  void load(const NamedTensors& weights, const std::string& where);

  /// While one lives the module holds the averaged values; its own come back at the end.
  class Swap {
   public:
    Swap(torch::nn::Module& module, const Ema& ema);
    ~Swap();
    Swap(const Swap&) = delete;
    Swap& operator=(const Swap&) = delete;

   private:
    torch::nn::Module& module_;
    NamedTensors own_;
  };

 private:
  NamedTensors weights_;
  double decay_;
  EmaWarmup warmup_;
};

}  // namespace nextscale
