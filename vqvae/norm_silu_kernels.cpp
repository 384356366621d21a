#include "nextscale/vqvae/norm_silu_kernels.h"

#include "nextscale/base/vectorised.h"
#include "nextscale/base/vectorised_math.h"

namespace nextscale::kernels {

NEXTSCALE_VECTORISED void bfloat16_to_float(const uint16_t* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
}

NEXTSCALE_VECTORISED void float_to_bfloat16(const float* __restrict from, uint16_t* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(from[i]);
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
