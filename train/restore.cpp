#include "nextscale/train/restore.h"

#include <unordered_map>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include "nextscale/base/error.h"

namespace nextscale {

void restore(const NamedTensors& own, const NamedTensors& source, const std::string& where) {
  const std::unordered_map<std::string, at::Tensor> given(source.begin(), source.end());
  const std::unordered_map<std::string, at::Tensor> wanted(own.begin(), own.end());
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    if (found == given.end()) throw failure({where + ": " + name, "tensor is missing", shape_text(tensor.sizes()), {}});
    if (found->second.sizes() != tensor.sizes()) {
      throw failure(
          {where + ": " + name, "shape differs", shape_text(tensor.sizes()), shape_text(found->second.sizes())});
    }
  }
  for (const auto& [name, tensor] : source) {
    if (wanted.count(name) == 0) {
      throw failure({where + ": " + name, "tensor does not belong here", {}, shape_text(tensor.sizes())});
    }
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : own) tensor.copy_(given.at(name));
}

}  // namespace nextscale
