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

/// AdamW with two groups (no decay first, as the reference orders them) on LibTorch's fused kernel, and on one of our
/// own for parameters that are trained by rounded copies.
class AdamW {
 public:
  /// @param parameters in named_parameters order; frozen ones may be among them, they never get a gradient
  /// @param decays whether a parameter is in the decaying group
  AdamW(NamedTensors parameters, const AdamWOptions& options,
        const std::function<bool(const std::string&, const at::Tensor&)>& decays);

  /// From now on these parameters' gradients are those of their rounded copies, in bfloat16, and a step rounds the new
  /// parameters into the copies: no float32 gradients, no casts. On a CPU; every gradient must be that of one pass,
  /// because sums of passes would lose the smaller one's bits. The files of the state stay the same.
  /// @param copies bfloat16 leaves by their parameters' names (Transformer::round_for_training)
  void use_rounded(const NamedTensors& copies);

  /// One step with the parameters' .grad, clipped as clip_gradients was last told since the step before. Parameters
  /// without a gradient are left alone.
  /// @param broken scalar float32 on the parameters' device; where it is 1 nothing changes, without asking the device
  void step(double lr, double weight_decay, const at::Tensor& broken = {});
  void zero_grad();
  /// Euclidean norm of all gradients before clipping, a scalar on their device. The next step clips it to `largest`
  /// (0 = only measures) as torch.nn.utils.clip_grad_norm_ does, on its way over the gradients, which therefore stay
  /// what they are until then. No synchronisation with the host.
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
    std::vector<at::Tensor> rounded;  // undefined where the parameter has its own gradient
    bool decays = false;

    const at::Tensor& gradient(size_t i) const { return (rounded[i].defined() ? rounded[i] : parameters[i]).grad(); }
  };
  void step_rounded(Group& group, size_t i, double lr, double weight_decay, const at::Tensor& scale) const;

  std::vector<Group> groups_;
  AdamWOptions options_;
  at::Tensor gradient_scale_;  // that the next step divides gradients by, float32 on their device; undefined = 1
};

/// The reference's groups (utils/lr_control.py filter_params): one-dimensional, biases and its list of names do not
/// decay.
bool transformer_parameter_decays(const std::string& name, const at::Tensor& parameter);
/// The same rule; of the tokenizer's matrices the codebook does not decay: rare codes would sink to zero between uses.
bool tokenizer_parameter_decays(const std::string& name, const at::Tensor& parameter);

}  // namespace nextscale
