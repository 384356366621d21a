#include "nextscale/base/checkpointed.h"

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

torch::Tensor checkpointed(const Forward& forward, const std::vector<torch::Tensor>& inputs) {
  return Checkpointed::apply(at::TensorList(inputs), forward);
}

}  // namespace nextscale
