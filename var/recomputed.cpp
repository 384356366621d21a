#include "nextscale/var/recomputed.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nextscale/var/bfloat16_operators.h"

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
    return at::linear(gelu_tanh(h), weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto &h = saved[0], &weight = saved[1];
    const auto gradient = outputs[0].flatten(0, -2);                                       // (B * L, C)
    const auto [activated, of_h] = gelu_tanh_gradient(h, gradient.mm(weight).view_as(h));  // (B, L, D) each
    return {of_h, gradient.t().mm(activated.flatten(0, -2)), gradient.sum(0)};
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

}  // namespace nextscale
