#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace torch::nn {
class Module;
}

namespace nextscale {

/// Names and tensors in order. Tensors share storage with whatever they were taken from.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Parameters and buffers in the reference's state-dict order: of each module its parameters, its buffers, then its
/// children (Python's `Module.state_dict()`).
NamedTensors state_dict(const torch::nn::Module& module);
/// Parameters only, in the same order (Python's `named_parameters()`).
NamedTensors named_parameters(const torch::nn::Module& module);

/// The tensor of that name, or an undefined one.
at::Tensor find_tensor(const NamedTensors& tensors, const std::string& name);

/// Copies every tensor of `source` into the module's of the same name.
/// @param copied told of each source tensor when it has been copied
/// @param where names the file in errors
/// @throws Error failure for a missing or extra name or another shape, before anything was changed
void load_state_dict(torch::nn::Module& module, const NamedTensors& source, const std::string& where,
                     const std::function<void(const at::Tensor&)>& copied = {});

}  // namespace nextscale
