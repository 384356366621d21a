#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// Exponential moving average of a module's parameters; buffers are copied. Decay warms up:
/// min(decay, (1 + step) / (10 + step)).
class Ema {
 public:
  Ema(const torch::nn::Module& module, double decay);
  void update(const torch::nn::Module& module, int64_t step);
  /// State dict with the averaged values; empty metadata. Order of state_dict(module).
  const NamedTensors& weights() const { return weights_; }
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
};

}  // namespace nextscale
