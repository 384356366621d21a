#include "nextscale/train/rounded_adamw.h"

#include <algorithm>

#include "nextscale/base/vectorised.h"
#include "nextscale/base/vectorised_math.h"

namespace nextscale::kernels {
namespace {

constexpr int64_t kLanes = 32;  // as many as the widest vectors take twice
constexpr int64_t kChunk = 4096;

}  // namespace

NEXTSCALE_VECTORISED void rounded_adamw(float* __restrict parameter, uint16_t* __restrict rounded,
                                        const uint16_t* __restrict gradient, float* __restrict exp_avg,
                                        float* __restrict exp_avg_sq, int64_t count, const AdamWFactors& factors) {
  const AdamWFactors f = factors;
  for (int64_t i = 0; i < count; ++i) {
    const float g = from_bfloat16(gradient[i]) * f.gradient;
    const float mean = exp_avg[i] + (g - exp_avg[i]) * (1.0f - f.beta1);
    const float square = f.beta2 * exp_avg_sq[i] + (1.0f - f.beta2) * g * g;
    const float value = parameter[i] * f.decay - f.step * mean / (__builtin_sqrtf(square) * f.inverse_root + f.eps);
    exp_avg[i] = mean;
    exp_avg_sq[i] = square;
    parameter[i] = value;
    rounded[i] = to_bfloat16(value);
  }
}

NEXTSCALE_VECTORISED double sum_of_squares(const uint16_t* __restrict x, int64_t count) {
  double total = 0;
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t size = std::min(kChunk, count - first), whole = size - size % kLanes;
    float lanes[kLanes] = {};
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const float value = from_bfloat16(x[first + i + j]);
        lanes[j] += value * value;
      }
    }
    for (int64_t i = whole; i < size; ++i) {
      const float value = from_bfloat16(x[first + i]);
      lanes[0] += value * value;
    }
    double sum = 0;
    for (const float lane : lanes) sum += static_cast<double>(lane);
    total += sum;
  }
  return total;
}

}  // namespace nextscale::kernels
