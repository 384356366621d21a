#pragma once

#include <functional>
#include <vector>

#include <torch/types.h>

namespace nextscale {

using Forward = std::function<torch::Tensor(const std::vector<torch::Tensor>& inputs)>;

/// forward(inputs), of which nothing but the inputs is kept: the backward pass runs it again, under the same autocast.
/// Parameters that it uses get their gradients. It must do the same both times, its random draws included.
torch::Tensor checkpointed(const Forward& forward, const std::vector<torch::Tensor>& inputs);

}  // namespace nextscale
