#pragma once

#include <cstdint>

namespace nextscale::kernels {

// Loops over bfloat16 gradients (their bits) and float32 values, compiled for the vector widths of several processors.

/// What a step multiplies with, the same for all values.
struct AdamWFactors {
  float gradient;  ///< of clipping
  float decay;     ///< 1 - lr * weight decay
  float beta1, beta2;
  float step;          ///< lr / (1 - beta1^t)
  float inverse_root;  ///< 1 / sqrt(1 - beta2^t)
  float eps;
};

/// AdamW (Loshchilov and Hutter 2019, algorithm 2) in one pass over memory that also rounds the new weights.
/// @param rounded receives the parameters in bfloat16
void rounded_adamw(float* parameter, uint16_t* rounded, const uint16_t* gradient, float* exp_avg, float* exp_avg_sq,
                   int64_t count, const AdamWFactors& factors);

/// Of bfloat16 values, in float32 over some thousand values and float64 over those.
double sum_of_squares(const uint16_t* x, int64_t count);

}  // namespace nextscale::kernels
