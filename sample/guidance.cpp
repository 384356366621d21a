#include "nextscale/sample/guidance.h"

#include <ATen/ATen.h>

namespace nextscale {

double scale_ratio(int64_t k, int64_t scales) {
  return scales > 1 ? static_cast<double>(k) / static_cast<double>(scales - 1) : 0.0;
}

double guidance_strength(double cfg, int64_t k, int64_t scales) { return cfg * scale_ratio(k, scales); }

at::Tensor guide(const at::Tensor& logits, double strength) {
  const auto halves = logits.chunk(2, 0);
  // Two products and a difference, as the reference rounds them: sampled tokens hang on the last bit.
  return halves[0].mul(1 + strength).sub_(halves[1].mul(strength));
}

}  // namespace nextscale
