#include "nextscale/vqvae/norm_silu_kernels.h"

#include "nextscale/base/vectorised.h"

namespace nextscale::kernels {
namespace {

// e^x to 2e-7 relative: 2^n by the exponent's bits, the rest by a polynomial. Without branches, so that it vectorises.
[[gnu::always_inline]] inline float exponential(float x) {
  x = x > 87.0f ? 87.0f : x;
  x = x < -87.0f ? -87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no bits behind the point
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.98756912e-4f;
  p = p * r + 1.39819994e-3f;
  p = p * r + 8.33345205e-3f;
  p = p * r + 4.16657962e-2f;
  p = p * r + 1.66666657e-1f;
  p = p * r + 5.00000012e-1f;
  p = p * r * r + r + 1.0f;
  return p * __builtin_bit_cast(float, (static_cast<int32_t>(n) + 127) << 23);
}

[[gnu::always_inline]] inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace

NEXTSCALE_VECTORISED void bfloat16_to_float(const uint16_t* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = __builtin_bit_cast(float, static_cast<uint32_t>(from[i]) << 16);
}

NEXTSCALE_VECTORISED void float_to_bfloat16(const float* __restrict from, uint16_t* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, from[i]);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    // The carry would turn some NaN into infinity.
    to[i] = static_cast<uint16_t>(from[i] == from[i] ? rounded : 0x7fc0u);
  }
}

NEXTSCALE_VECTORISED void add_sums(const float* __restrict x, int64_t rows, int64_t columns, float* __restrict sums) {
  for (int64_t row = 0; row < rows; ++row, x += columns) {
    for (int64_t c = 0; c < columns; ++c) sums[c] += x[c];
  }
}

NEXTSCALE_VECTORISED void centre(float* __restrict x, const float* __restrict mean, int64_t rows, int64_t columns,
                                 float* __restrict squares) {
  for (int64_t row = 0; row < rows; ++row, x += columns) {
    for (int64_t c = 0; c < columns; ++c) {
      x[c] -= mean[c];
      squares[c] += x[c] * x[c];
    }
  }
}

NEXTSCALE_VECTORISED void scale_silu(float* __restrict x, const float* __restrict scale, const float* __restrict shift,
                                     int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, x += columns) {
    for (int64_t c = 0; c < columns; ++c) {
      const float z = x[c] * scale[c] + shift[c];
      x[c] = z * sigmoid(z);
    }
  }
}

NEXTSCALE_VECTORISED void silu_gradient(float* __restrict gradient, const float* __restrict x,
                                        const float* __restrict scale, const float* __restrict shift, int64_t rows,
                                        int64_t columns, float* __restrict sums, float* __restrict products) {
  for (int64_t row = 0; row < rows; ++row, x += columns, gradient += columns) {
    for (int64_t c = 0; c < columns; ++c) {
      const float z = x[c] * scale[c] + shift[c];
      const float s = sigmoid(z);
      const float g = gradient[c] * (s * (1.0f + z * (1.0f - s)));
      gradient[c] = g;
      sums[c] += g;
      products[c] += g * x[c];
    }
  }
}

NEXTSCALE_VECTORISED void combine(float* __restrict gradient, const float* __restrict x, const float* __restrict a,
                                  const float* __restrict b, const float* __restrict c, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, x += columns, gradient += columns) {
    for (int64_t i = 0; i < columns; ++i) gradient[i] = gradient[i] * a[i] + (x[i] * b[i] + c[i]);
  }
}

}  // namespace nextscale::kernels
