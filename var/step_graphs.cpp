#include "nextscale/var/step_graphs.h"

#include <utility>

#include <ATen/ATen.h>

namespace nextscale {

StepGraphs::StepGraphs(Transformer transformer, Recorder recorder)
    : transformer_(std::move(transformer)), recorder_(std::move(recorder)) {}

void StepGraphs::begin(const torch::Tensor& labels) {
  if (transformer_->begin_again(labels, cache_)) return;
  scales_.clear();  // before the memory that they point into
  cache_ = transformer_->begin_sampling(labels);
  scales_.resize(static_cast<size_t>(transformer_->scales().count()));
}

torch::Tensor StepGraphs::step(int64_t k, const torch::Tensor& inputs) {
  auto& scale = scales_.at(static_cast<size_t>(k));
  if (inputs.defined()) {
    if (scale.inputs.defined() && scale.inputs.sizes() != inputs.sizes()) scale = {};
    if (!scale.inputs.defined()) scale.inputs = at::empty(inputs.sizes(), inputs.options());
    scale.inputs.copy_(inputs);
  }
  if (!scale.step) {
    scale.step = recorder_([this, k, fixed = scale.inputs] {
      KvCache at = cache_;  // the same memory; what step counts in it is not recorded
      at.scale = k;
      at.position = transformer_->scales().begin(k);
      return transformer_->step(k, fixed, at);
    });
  }
  return scale.step();
}

}  // namespace nextscale
