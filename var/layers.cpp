#include "nextscale/var/layers.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include "nextscale/var/bfloat16_operators.h"
#include "nextscale/var/recomputed.h"

namespace nextscale {

LinearImpl::LinearImpl(int64_t in, int64_t out, bool bias, at::Device device)
    : weight_(register_parameter("weight", at::zeros({out, in}, device))) {
  if (bias) bias_ = register_parameter("bias", at::zeros({out}, device));
}

void LinearImpl::keep_in(at::ScalarType dtype) {
  weight_.set_data(weight_.to(dtype));
  if (bias_.defined()) bias_.set_data(bias_.to(dtype));
}

torch::Tensor LinearImpl::round_for_training(at::ScalarType dtype) {
  rounded_ = weight_.detach().to(dtype).set_requires_grad(true);
  rounded_version_ = weight_._version();
  return rounded_;
}

const torch::Tensor& LinearImpl::weight() const {
  const bool use_rounded = rounded_.defined() && at::autocast::is_autocast_enabled(at::kCPU) &&
                           at::autocast::get_autocast_dtype(at::kCPU) == rounded_.scalar_type();
  if (!use_rounded) return weight_;
  // Others change it, too: checkpoints that are loaded, averaged weights that take its place in validation.
  if (rounded_version_ != weight_._version()) {
    const at::NoGradGuard no_grad;
    rounded_.copy_(weight_);
    rounded_version_ = weight_._version();
  }
  return rounded_;
}

torch::Tensor LinearImpl::forward(const torch::Tensor& x) const { return at::linear(x, weight(), bias_); }

torch::Tensor LinearImpl::forward_gelu(const torch::Tensor& h) const {
  if (!at::GradMode::is_enabled()) return forward(gelu_tanh(h));
  if (!h.is_cpu()) return forward(at::gelu(h, "tanh"));
  const auto cast = [&h](const torch::Tensor& t) {
    return t.scalar_type() == h.scalar_type() ? t : at::autocast::cached_cast(h.scalar_type(), t, at::kCPU);
  };
  return recomputed_gelu_linear(h, cast(weight()), cast(bias_));
}

EmbeddingImpl::EmbeddingImpl(int64_t rows, int64_t width, at::Device device)
    : weight_(register_parameter("weight", at::zeros({rows, width}, device))) {}

torch::Tensor EmbeddingImpl::forward(const torch::Tensor& indices) const { return at::embedding(weight_, indices); }

ConditionProjectionImpl::ConditionProjectionImpl(int64_t width, int64_t parts, at::Device device)
    : parts_(parts), linear_(register_module("1", Linear(width, parts * width, true, device))) {}

torch::Tensor ConditionProjectionImpl::forward(const torch::Tensor& activated_condition) const {
  return linear_->forward(activated_condition).view({activated_condition.size(0), 1, parts_, -1});
}

torch::Tensor keep_mask(at::IntArrayRef shape, double keep, const torch::Tensor& like,
                        const std::optional<at::Generator>& generator) {
  const auto device = generator ? generator->device() : like.device();
  const auto mask = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(device));
  return mask.bernoulli_(keep, generator).div_(keep).to(like.options());
}

torch::Tensor modulated_norm(const torch::Tensor& x, const torch::Tensor& scale_plus_one, const torch::Tensor& shift,
                             double eps) {
  if (x.is_cpu() && at::GradMode::is_enabled()) return recomputed_norm(x, scale_plus_one, shift, eps);
  return at::addcmul(shift, at::layer_norm(x, {x.size(-1)}, {}, {}, eps), scale_plus_one);
}

}  // namespace nextscale
