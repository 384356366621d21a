#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nextscale/base/state_dict.h"

namespace nextscale {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
};

/// AdamW with two groups (no decay first, as the reference orders them) on LibTorch's fused kernel.
class AdamW {
 public:
  /// @param decays whether a parameter is in the decaying group
  AdamW(NamedTensors parameters, const AdamWOptions& options, const std::function<bool(const std::string&, const at::Tensor&)>& decays);

  /// One step with the parameters' .grad. Parameters without a gradient are left alone.
  void step(double lr, double weight_decay);
  void zero_grad();
  /// Norm of all gradients before clipping; clips to `largest` (0 = only measures). On the device, no synchronisation.
  at::Tensor clip_gradients(double largest);

  /// "NAME.exp_avg", "NAME.exp_avg_sq", "NAME.step"
  NamedTensors state() const;
  /// @throws Error failure naming file and entry
  void load_state(const NamedTensors& state, const std::string& where);

 private:
  struct Group {
    std::vector<std::string> names;
    std::vector<at::Tensor> parameters, exp_avgs, exp_avg_sqs, steps;
    bool decays;
  };
  std::vector<Group> groups_;
  AdamWOptions options_;
};

/// The reference's groups (utils/lr_control.py filter_params): one-dimensional, biases and its list of names do not decay.
bool transformer_parameter_decays(const std::string& name, const at::Tensor& parameter);
bool tokenizer_parameter_decays(const std::string& name, const at::Tensor& parameter);

}  // namespace nextscale
