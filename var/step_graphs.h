#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "nextscale/base/graph_recorder.h"
#include "nextscale/var/kv_cache.h"
#include "nextscale/var/transformer.h"

namespace nextscale {

/// Transformer::step for batch after batch of one size, each scale recorded once and replayed from then on: the shapes
/// of a scale never change, and a small batch on a GPU waits for launches more than for arithmetic. Results are those
/// of the transformer's own step. The weights may change between batches, but not their places in memory.
class StepGraphs {
 public:
  StepGraphs(Transformer transformer, Recorder recorder);
  StepGraphs(const StepGraphs&) = delete;  // what was recorded points into this one
  StepGraphs& operator=(const StepGraphs&) = delete;

  /// As Transformer::begin_sampling. Another batch size or arithmetic than before forgets what was recorded.
  void begin(const torch::Tensor& labels);
  /// As Transformer::step; the result is the caller's until the next batch's step of this scale.
  torch::Tensor step(int64_t k, const torch::Tensor& inputs);

 private:
  struct Scale {
    torch::Tensor inputs;  ///< (.., l_k, Cvae), where the recorded work reads them
    Work step;
  };

  Transformer transformer_;
  Recorder recorder_;
  KvCache cache_;
  std::vector<Scale> scales_;
};

}  // namespace nextscale
