#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

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
  /// @param parameters in named_parameters order; frozen ones may be among them, they never get a gradient
  /// @param decays whether a parameter is in the decaying group
  AdamW(NamedTensors parameters, const AdamWOptions& options,
        const std::function<bool(const std::string&, const at::Tensor&)>& decays);

  /// One step with the parameters' .grad. Parameters without a gradient are left alone.
  /// @param broken scalar float32 on the parameters' device; where it is 1 nothing changes, without asking the device
  void step(double lr, double weight_decay, const at::Tensor& broken = {});
  void zero_grad();
  /// Euclidean norm of all gradients before clipping, a scalar on their device; clips to `largest` (0 = only measures)
  /// as torch.nn.utils.clip_grad_norm_ does. No synchronisation with the host.
  at::Tensor clip_gradients(double largest);

  /// "NAME.exp_avg", "NAME.exp_avg_sq", "NAME.step", group by group; shares storage with the optimizer.
  NamedTensors state() const;
  /// @throws Error failure naming file and entry (missing, extra, another shape), before anything was changed
  void load_state(const NamedTensors& state, const std::string& where);

  /// Names of the groups' parameters, no decay first.
  std::vector<std::vector<std::string>> group_names() const;

 private:
  struct Group {
    std::vector<std::string> names;
    std::vector<at::Tensor> parameters, exp_avgs, exp_avg_sqs, steps;
    bool decays = false;
  };
  std::vector<Group> groups_;
  AdamWOptions options_;
};

/// The reference's groups (utils/lr_control.py filter_params): one-dimensional, biases and its list of names do not
/// decay.
bool transformer_parameter_decays(const std::string& name, const at::Tensor& parameter);
/// The same rule; of the tokenizer's matrices the codebook does not decay: rare codes would sink to zero between uses.
bool tokenizer_parameter_decays(const std::string& name, const at::Tensor& parameter);

}  // namespace nextscale
