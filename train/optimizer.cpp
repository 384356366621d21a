#include "nextscale/train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "nextscale/train/restore.h"
#include "nextscale/train/rounded_adamw.h"

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

constexpr int64_t kGrain = 1 << 15;  // values worth a thread

std::optional<at::Tensor> optional(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }

bool is_one(const at::Tensor& scalar) { return scalar.defined() && scalar.item<float>() == 1; }

at::Tensor euclidean_norm(const at::Tensor& rounded) {
  const auto dense = rounded.contiguous();
  const auto* bits = static_cast<const uint16_t*>(dense.const_data_ptr());
  const double squares = at::parallel_reduce(
      0, dense.numel(), kGrain, 0.0,
      [bits](int64_t begin, int64_t end, double sum) {
        return sum + kernels::sum_of_squares(bits + begin, end - begin);
      },
      std::plus<double>());
  return at::scalar_tensor(std::sqrt(squares), at::kFloat);
}

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
    group.rounded.emplace_back();
  }
}

void AdamW::use_rounded(const NamedTensors& copies) {
  for (const auto& [name, copy] : copies) {
    size_t found = 0;
    for (auto& group : groups_) {
      const auto place = std::find(group.names.begin(), group.names.end(), name);
      if (place == group.names.end()) continue;
      const auto i = static_cast<size_t>(place - group.names.begin());
      TORCH_CHECK(copy.is_cpu() && copy.scalar_type() == at::kBFloat16 && copy.is_contiguous() &&
                      group.parameters[i].is_contiguous() && copy.sizes() == group.parameters[i].sizes(),
                  "no rounded copy of ", name);
      group.rounded[i] = copy;
      ++found;
    }
    TORCH_CHECK(found == 1, "a rounded copy of no parameter: ", name);
  }
}

void AdamW::step_rounded(Group& group, size_t i, double lr, double weight_decay, const at::Tensor& scale) const {
  const auto gradient = group.rounded[i].grad().contiguous();
  group.steps[i].add_(1);
  const double t = group.steps[i].item<double>();
  const kernels::AdamWFactors factors = {
      .gradient = scale.defined() ? 1 / scale.item<float>() : 1,
      .decay = static_cast<float>(1 - lr * weight_decay),
      .beta1 = static_cast<float>(options_.beta1),
      .beta2 = static_cast<float>(options_.beta2),
      .step = static_cast<float>(lr / (1 - std::pow(options_.beta1, t))),
      .inverse_root = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t))),
      .eps = static_cast<float>(options_.eps)};
  auto* const parameter = static_cast<float*>(group.parameters[i].mutable_data_ptr());
  auto* const rounded = static_cast<uint16_t*>(group.rounded[i].mutable_data_ptr());
  const auto* const bits = static_cast<const uint16_t*>(gradient.const_data_ptr());
  auto* const exp_avg = static_cast<float*>(group.exp_avgs[i].mutable_data_ptr());
  auto* const exp_avg_sq = static_cast<float*>(group.exp_avg_sqs[i].mutable_data_ptr());
  at::parallel_for(0, gradient.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::rounded_adamw(parameter + begin, rounded + begin, bits + begin, exp_avg + begin, exp_avg_sq + begin,
                           end - begin, factors);
  });
}

void AdamW::step(double lr, double weight_decay, const at::Tensor& broken) {
  const at::NoGradGuard no_grad;
  const at::Tensor scale = std::exchange(gradient_scale_, at::Tensor());
  for (auto& group : groups_) {
    Stepping now;
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      const at::Tensor& gradient = group.gradient(i);
      if (!gradient.defined()) continue;
      if (group.rounded[i].defined()) {
        if (!is_one(broken)) step_rounded(group, i, lr, group.decays ? weight_decay : 0.0, scale);
        continue;
      }
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
                      /*amsgrad=*/false, /*maximize=*/false, optional(scale), optional(broken));
  }
}

void AdamW::zero_grad() {
  for (auto& group : groups_) {
    for (auto& parameter : group.parameters) parameter.mutable_grad().reset();
    for (auto& copy : group.rounded) {
      if (copy.defined()) copy.mutable_grad().reset();
    }
  }
}

at::Tensor AdamW::clip_gradients(double largest) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients, norms;
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      if (!group.gradient(i).defined()) continue;
      if (group.rounded[i].defined()) {
        norms.push_back(euclidean_norm(group.gradient(i)));
      } else {
        gradients.push_back(group.gradient(i));
      }
    }
  }
  gradient_scale_ = at::Tensor();
  if (gradients.empty() && norms.empty()) return at::zeros({});
  if (!gradients.empty()) {
    for (auto& norm : at::_foreach_norm(gradients)) norms.push_back(std::move(norm));
  }
  const at::Tensor norm = at::stack(norms).norm();
  // Always divided by: asking whether it is needed would wait for the device.
  if (largest > 0) gradient_scale_ = norm.add(1e-6).div_(largest).clamp_min_(1.0);
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
