#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "nextscale/var/block.h"

namespace nextscale {

/// What sampling keeps from scale to scale for one batch; made by Transformer::begin_sampling, changed by step.
/// Keys and values have their full length from the start, so that nothing is copied while the sequence grows; the last
/// scale, which nobody looks back at, has no place in them, and after it they are gone.
struct KvCache {
  int64_t scale = 0;                        ///< the next scale that step expects
  int64_t position = 0;                     ///< tokens of the scales so far
  torch::Tensor start;                      ///< (B, l_0, C) float32, input of scale 0
  torch::Tensor positions;                  ///< (1, L, C) float32, position plus level embedding
  std::vector<Modulation> modulations;      ///< of each block
  torch::Tensor head_scale, head_shift;     ///< (B, 1, C) float32
  std::vector<torch::Tensor> keys, values;  ///< of each block, (B, H, L - l_K, c)

  int64_t batch() const { return start.size(0); }
  /// What depends on labels and weights, in one order: everything but keys and values.
  std::vector<torch::Tensor> changing() const {
    std::vector<torch::Tensor> all = {start, positions, head_scale, head_shift};
    for (const auto& m : modulations) {
      all.insert(all.end(), {m.gamma1, m.gamma2, m.scale1, m.scale2, m.shift1, m.shift2});
    }
    return all;
  }
};

}  // namespace nextscale
