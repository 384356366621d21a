#include "nextscale/train/running_means.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

namespace nextscale {

void RunningMeans::add(const std::string& name, const torch::Tensor& value) {
  const at::NoGradGuard no_grad;
  const auto now = value.detach().to(at::kDouble);
  const auto finite = now.isfinite();
  const auto counted = at::where(finite, now, at::zeros_like(now)), one = finite.to(at::kDouble);
  auto& [sum, count] = sums_[name];
  sum = sum.defined() ? sum + counted : counted;
  count = count.defined() ? count + one : one;
}

std::map<std::string, double> RunningMeans::take() {
  std::map<std::string, double> means;
  for (const auto& [name, of] : sums_) means[name] = (of.sum / of.count).item<double>();
  sums_.clear();
  return means;
}

}  // namespace nextscale
