#include "nextscale/networks/spectral_norm.h"

#include <ATen/ops/conv1d.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/zeros.h>

#include "nextscale/base/runtime.h"
#include "nextscale/networks/discriminator.h"

namespace nextscale {
namespace {

torch::Tensor unit(const torch::Tensor& x) { return x / x.norm().clamp_min(1e-12); }

}  // namespace

SpectralConv1dImpl::SpectralConv1dImpl(const SpectralConv1dOptions& options)
    : options_(options),
      weight_orig_(register_parameter("weight_orig", at::zeros({options.out, options.in, options.kernel}))),
      bias_(register_parameter("bias", at::zeros({options.out}))),
      weight_u_(register_buffer("weight_u", at::zeros({options.out}))),
      weight_v_(register_buffer("weight_v", at::zeros({options.in * options.kernel}))) {
  TORCH_CHECK(options.kernel % 2 == 1, "an odd kernel");
}

torch::Tensor SpectralConv1dImpl::normalised_weight() {
  const auto matrix = weight_orig_.flatten(1);  // (out, in * kernel)
  if (is_training()) {
    const at::NoGradGuard no_grad;
    weight_v_.copy_(unit(at::mv(matrix.t(), weight_u_)));
    weight_u_.copy_(unit(at::mv(matrix, weight_v_)));
  }
  // Copies: a second forward before the backward of this one must not change what the gradient is taken with.
  return weight_orig_ / at::dot(weight_u_.clone(), at::mv(matrix, weight_v_.clone()));
}

torch::Tensor SpectralConv1dImpl::forward(const torch::Tensor& x) {
  const AutocastGuard full_precision(x.device().type(), at::kFloat);
  const auto weight = normalised_weight();
  const int64_t beyond = options_.kernel / 2;
  auto padded = x.to(weight.scalar_type());
  if (options_.circular && beyond > 0) padded = at::pad(padded, {beyond, beyond}, "circular");
  return at::conv1d(padded, weight, bias_, 1, options_.circular ? 0 : beyond);
}

void SpectralConv1dImpl::initialise(at::Generator generator) {
  const at::NoGradGuard no_grad;
  // The published start cuts the normal off at +-2, a hundred standard deviations away: no value is ever cut.
  draw_normal(weight_orig_, 0, 0.02, generator);
  bias_.zero_();
  for (const auto& direction : {weight_u_, weight_v_}) {
    draw_normal(direction, 0, 1, generator);
    direction.copy_(unit(direction));
  }
}

}  // namespace nextscale
