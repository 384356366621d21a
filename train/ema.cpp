#include "nextscale/train/ema.h"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>

#include "nextscale/train/restore.h"

namespace nextscale {
namespace {

NamedTensors copies(const torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  NamedTensors out;
  for (const auto& [name, tensor] : state_dict(module)) out.emplace_back(name, tensor.detach().clone());
  return out;
}

}  // namespace

Ema::Ema(const torch::nn::Module& module, double decay, EmaWarmup warmup)
    : weights_(copies(module)), decay_(decay), warmup_(warmup) {}

void Ema::update(const torch::nn::Module& module, int64_t step) {
  const at::NoGradGuard no_grad;
  // Early averages would mostly hold the initial values.
  const auto grown = static_cast<double>(warmup_ == EmaWarmup::in_pairs ? step / 2 : step);
  const double decay = std::min(decay_, (1 + grown) / (10 + grown));
  std::unordered_set<std::string> averaged_names;
  for (const auto& [name, tensor] : named_parameters(module)) averaged_names.insert(name);

  const NamedTensors now = state_dict(module);
  std::vector<at::Tensor> averages, values;
  for (size_t i = 0; i < now.size(); ++i) {
    if (averaged_names.count(now[i].first) > 0) {
      averages.push_back(weights_[i].second);
      values.push_back(now[i].second.detach());
    } else {
      weights_[i].second.copy_(now[i].second);
    }
  }
  if (!averages.empty()) at::_foreach_lerp_(averages, values, 1 - decay);
}

void Ema::load(const NamedTensors& weights, const std::string& where) { restore(weights_, weights, where); }

Ema::Swap::Swap(torch::nn::Module& module, const Ema& ema) : module_(module), own_(copies(module)) {
  restore(state_dict(module), ema.weights(), "EMA weights");
}

Ema::Swap::~Swap() { restore(state_dict(module_), own_, "own weights"); }

}  // namespace nextscale
