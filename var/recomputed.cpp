#include "nextscale/var/recomputed.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "nextscale/base/runtime.h"

namespace nextscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class RecomputedNorm : public torch::autograd::Function<RecomputedNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& scale,
                            const at::Tensor& shift, double eps) {
    const auto [normed, mean, rstd] = at::native_layer_norm(x, {x.size(-1)}, {}, {}, eps);
    context->save_for_backward({x, scale, mean, rstd});
    context->saved_data["eps"] = eps;
    return at::addcmul(shift, normed, scale);
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &scale = saved[1], &mean = saved[2], &rstd = saved[3], &gradient = outputs[0];
    const std::vector<int64_t> width = {x.size(-1)};
    const auto normed = std::get<0>(at::native_layer_norm(x, width, {}, {}, context->saved_data["eps"].toDouble()));
    const auto of_x = std::get<0>(
        at::native_layer_norm_backward(gradient * scale, x, width, mean, rstd, {}, {}, {true, false, false}));
    return {of_x, (gradient * normed).sum_to_size(scale.sizes()), gradient.sum_to_size(scale.sizes()), {}};
  }
};

class RecomputedGeluLinear : public torch::autograd::Function<RecomputedGeluLinear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& h, const at::Tensor& weight,
                            const at::Tensor& bias) {
    context->save_for_backward({h, weight});
    return at::linear(at::gelu(h, "tanh"), weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto &h = saved[0], &weight = saved[1];
    const auto gradient = outputs[0].flatten(0, -2);                             // (B * L, C)
    const auto of_weight = gradient.t().mm(at::gelu(h, "tanh").flatten(0, -2));  // (C, D)
    const auto of_activated = gradient.mm(weight).view_as(h);                    // (B, L, D)
    return {at::gelu_backward(of_activated, h, "tanh"), of_weight, gradient.sum(0)};
  }
};

/// What a backward pass needs to run a forward pass again.
struct Again : torch::CustomClassHolder {
  Again(Forward run, at::ScalarType type) : forward(std::move(run)), dtype(type) {}
  Forward forward;
  at::ScalarType dtype;  // of autocast; float32 = none
};

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, const Forward& forward) {
    const auto device = inputs.front().device().type();
    const bool reduced = at::autocast::is_autocast_enabled(device);
    context->save_for_backward(inputs.vec());
    context->saved_data["again"] = c10::IValue::make_capsule(
        c10::make_intrusive<Again>(forward, reduced ? at::autocast::get_autocast_dtype(device) : at::kFloat));
    return forward(inputs.vec());
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const auto again = c10::static_intrusive_pointer_cast<Again>(context->saved_data["again"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    variable_list inputs;
    for (const auto& saved : context->get_saved_variables()) {
      inputs.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    }
    torch::Tensor output;
    {
      const AutocastGuard autocast(inputs.front().device().type(), again->dtype);
      output = again->forward(inputs);
    }
    torch::autograd::backward({output}, {outputs[0]});
    variable_list gradients;
    for (const auto& input : inputs) gradients.push_back(input.grad());
    gradients.emplace_back();  // of the function
    return gradients;
  }
};

}  // namespace

torch::Tensor recomputed_norm(const torch::Tensor& x, const torch::Tensor& scale_plus_one, const torch::Tensor& shift,
                              double eps) {
  return RecomputedNorm::apply(x, scale_plus_one, shift, eps);
}

torch::Tensor recomputed_gelu_linear(const torch::Tensor& h, const torch::Tensor& weight, const torch::Tensor& bias) {
  return RecomputedGeluLinear::apply(h, weight, bias);
}

torch::Tensor checkpointed(const Forward& forward, const std::vector<torch::Tensor>& inputs) {
  return Checkpointed::apply(at::TensorList(inputs), forward);
}

}  // namespace nextscale
