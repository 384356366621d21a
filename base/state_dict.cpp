#include "nextscale/base/state_dict.h"

#include <unordered_map>

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

void collect(const torch::nn::Module& module, const std::string& prefix, bool with_buffers, NamedTensors& out) {
  for (const auto& item : module.named_parameters(/*recurse=*/false))
    out.emplace_back(prefix + item.key(), item.value());
  if (with_buffers) {
    for (const auto& item : module.named_buffers(/*recurse=*/false))
      out.emplace_back(prefix + item.key(), item.value());
  }
  for (const auto& child : module.named_children()) {
    collect(*child.value(), prefix + child.key() + ".", with_buffers, out);
  }
}

}  // namespace

NamedTensors state_dict(const torch::nn::Module& module) {
  NamedTensors out;
  collect(module, "", true, out);
  return out;
}

NamedTensors named_parameters(const torch::nn::Module& module) {
  NamedTensors out;
  collect(module, "", false, out);
  return out;
}

at::Tensor find_tensor(const NamedTensors& tensors, const std::string& name) {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  return {};
}

void load_state_dict(torch::nn::Module& module, const NamedTensors& source, const std::string& where,
                     const std::function<void(const at::Tensor&)>& copied) {
  const NamedTensors target = state_dict(module);
  std::unordered_map<std::string, at::Tensor> given(source.begin(), source.end());
  for (const auto& [name, tensor] : target) {
    const auto found = given.find(name);
    if (found == given.end()) throw failure({where + ": " + name, "tensor is missing", shape_text(tensor.sizes()), {}});
    if (found->second.sizes() != tensor.sizes()) {
      throw failure(
          {where + ": " + name, "shape differs", shape_text(tensor.sizes()), shape_text(found->second.sizes())});
    }
  }
  if (given.size() != target.size()) {
    std::unordered_map<std::string, at::Tensor> wanted(target.begin(), target.end());
    for (const auto& [name, tensor] : source) {
      if (wanted.count(name) == 0) {
        throw failure({where + ": " + name, "tensor does not belong here", {}, shape_text(tensor.sizes())});
      }
    }
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : target) {
    const auto& from = given.at(name);
    tensor.copy_(from);
    if (copied) copied(from);
  }
}

}  // namespace nextscale
