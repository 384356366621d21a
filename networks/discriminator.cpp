#include "nextscale/networks/discriminator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

namespace nextscale {

void draw_normal(const torch::Tensor& parameter, double mean, double std, at::Generator generator) {
  const at::NoGradGuard no_grad;
  parameter.copy_(at::empty(parameter.sizes(), at::kFloat).normal_(mean, std, generator));
}

}  // namespace nextscale
