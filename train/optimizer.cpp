#include "nextscale/train/optimizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "nextscale/train/restore.h"

namespace nextscale {
namespace {

bool is_matrix_weight(const std::string& name, const at::Tensor& parameter) {
  constexpr std::string_view kBias = "bias";
  const bool bias = name.size() >= kBias.size() && name.compare(name.size() - kBias.size(), kBias.size(), kBias) == 0;
  return parameter.dim() != 1 && !bias;
}

/// Parameters that have a gradient now, with everything the fused kernel wants of them.
struct Stepping {
  std::vector<at::Tensor> parameters, gradients, exp_avgs, exp_avg_sqs, steps;
};

}  // namespace

AdamW::AdamW(NamedTensors parameters, const AdamWOptions& options,
             const std::function<bool(const std::string&, const at::Tensor&)>& decays)
    : groups_(2), options_(options) {
  groups_[1].decays = true;
  for (auto& [name, parameter] : parameters) {
    Group& group = groups_[decays(name, parameter) ? 1 : 0];
    group.names.push_back(name);
    group.exp_avgs.push_back(at::zeros_like(parameter).detach());
    group.exp_avg_sqs.push_back(at::zeros_like(parameter).detach());
    group.steps.push_back(at::zeros({}, parameter.options().dtype(at::kFloat).requires_grad(false)));
    group.parameters.push_back(std::move(parameter));
  }
}

void AdamW::step(double lr, double weight_decay, const at::Tensor& broken) {
  const at::NoGradGuard no_grad;
  for (auto& group : groups_) {
    Stepping now;
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      const at::Tensor& gradient = group.parameters[i].grad();
      if (!gradient.defined()) continue;
      now.parameters.push_back(group.parameters[i]);
      now.gradients.push_back(gradient);
      now.exp_avgs.push_back(group.exp_avgs[i]);
      now.exp_avg_sqs.push_back(group.exp_avg_sqs[i]);
      now.steps.push_back(group.steps[i]);
    }
    if (now.parameters.empty()) continue;
    if (broken.defined()) {
      at::_foreach_add_(now.steps, broken.neg().add_(1));
    } else {
      at::_foreach_add_(now.steps, 1);
    }
    at::_fused_adamw_(now.parameters, now.gradients, now.exp_avgs, now.exp_avg_sqs, /*max_exp_avg_sqs=*/{}, now.steps,
                      lr, options_.beta1, options_.beta2, group.decays ? weight_decay : 0.0, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{},
                      broken.defined() ? std::optional<at::Tensor>(broken) : std::nullopt);
  }
}

void AdamW::zero_grad() {
  for (auto& group : groups_) {
    for (auto& parameter : group.parameters) parameter.mutable_grad().reset();
  }
}

at::Tensor AdamW::clip_gradients(double largest) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& group : groups_) {
    for (const auto& parameter : group.parameters) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  }
  if (gradients.empty()) return at::zeros({});
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients)).norm();
  // Multiplied always: asking whether it is needed would wait for the device.
  if (largest > 0) at::_foreach_mul_(gradients, norm.add(1e-6).reciprocal().mul(largest).clamp_max(1.0));
  return norm;
}

NamedTensors AdamW::state() const {
  NamedTensors out;
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      out.emplace_back(group.names[i] + ".exp_avg", group.exp_avgs[i]);
      out.emplace_back(group.names[i] + ".exp_avg_sq", group.exp_avg_sqs[i]);
      out.emplace_back(group.names[i] + ".step", group.steps[i]);
    }
  }
  return out;
}

void AdamW::load_state(const NamedTensors& state, const std::string& where) { restore(this->state(), state, where); }

std::vector<std::vector<std::string>> AdamW::group_names() const { return {groups_[0].names, groups_[1].names}; }

bool transformer_parameter_decays(const std::string& name, const at::Tensor& parameter) {
  // Positions, levels, starts and gates: tables that are added, not matrices that multiply (reference train.py).
  static constexpr std::array<std::string_view, 14> kNoDecay = {
      "cls_token", "start_token", "task_token", "cfg_uncond", "pos_embed", "pos_1LC",  "pos_start",
      "start_pos", "lvl_embed",   "gamma",      "beta",       "ada_gss",   "moe_bias", "scale_mul"};
  return is_matrix_weight(name, parameter) && std::none_of(kNoDecay.begin(), kNoDecay.end(), [&](std::string_view key) {
           return name.find(key) != std::string::npos;
         });
}

bool tokenizer_parameter_decays(const std::string& name, const at::Tensor& parameter) {
  return is_matrix_weight(name, parameter) && name.find("quantize.embedding") == std::string::npos;
}

}  // namespace nextscale
