#include "nextscale/train/adversarial_losses.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

namespace nextscale {

torch::Tensor hinge_loss(const torch::Tensor& real, const torch::Tensor& fake) {
  return at::relu(1 - real).mean() + at::relu(1 + fake).mean();
}

torch::Tensor generator_loss(const torch::Tensor& fake) { return fake.mean().neg(); }

Accuracy accuracy(const torch::Tensor& real, const torch::Tensor& fake) {
  return {real.detach().gt(0).to(at::kFloat).mean(), fake.detach().lt(0).to(at::kFloat).mean()};
}

Lecam::Lecam(double decay, torch::Device device)
    : decay_(decay),
      real_(at::zeros({}, at::TensorOptions(at::kFloat).device(device))),
      fake_(at::zeros({}, at::TensorOptions(at::kFloat).device(device))) {}

torch::Tensor Lecam::operator()(const torch::Tensor& real, const torch::Tensor& fake) {
  {
    const at::NoGradGuard no_grad;
    for (const auto& [running, logits] : {std::pair{real_, real}, std::pair{fake_, fake}}) {
      const auto mean = logits.detach().to(at::kFloat).mean();
      // What is not a number would stay in a running mean for ever.
      running.copy_(at::where(mean.isfinite(), running * decay_ + mean * (1 - decay_), running));
    }
  }
  // Copies: the next call changes the running means while autograd may still hold them.
  return at::relu(real - fake_.clone()).square().mean() + at::relu(real_.clone() - fake).square().mean();
}

torch::Tensor gradient_ratio(const torch::Tensor& reconstruction, const torch::Tensor& adversarial, double eps) {
  return reconstruction.norm() / (adversarial.norm() + eps);
}

torch::Tensor limited(const torch::Tensor& ratio, const AdaptiveWeight& options) {
  return at::where(ratio.isfinite(), ratio.clamp(options.low, options.high), at::zeros_like(ratio));
}

}  // namespace nextscale
