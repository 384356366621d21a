#include "nextscale/var/bfloat16_kernels.h"

#include <limits>

#include "nextscale/base/vectorised.h"
#include "nextscale/base/vectorised_math.h"

namespace nextscale::kernels {
namespace {

// gelu_tanh(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), for tanh(z) = 2 sigmoid(2 z) - 1.
constexpr float kSlope = 1.5957691216f, kCubic = 0.044715f;

[[gnu::always_inline]] inline float gate(float x) { return sigmoid(kSlope * (x + kCubic * x * x * x)); }

// Sums and maxima in as many lanes as the widest vectors take twice: compilers do not reorder float sums themselves.
constexpr int64_t kLanes = 32;

}  // namespace

NEXTSCALE_VECTORISED void gelu_tanh(const uint16_t* __restrict x, uint16_t* __restrict y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = from_bfloat16(x[i]);
    y[i] = to_bfloat16(value * gate(value));
  }
}

NEXTSCALE_VECTORISED void gelu_tanh_gradient(const uint16_t* __restrict x, uint16_t* __restrict activated,
                                             uint16_t* __restrict gradient, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = from_bfloat16(x[i]);
    const float s = gate(value);
    activated[i] = to_bfloat16(value * s);
    const float inner = kSlope * (1.0f + 3.0f * kCubic * value * value);
    gradient[i] = to_bfloat16(from_bfloat16(gradient[i]) * (s + value * s * (1.0f - s) * inner));
  }
}

NEXTSCALE_VECTORISED void softmax_rows(uint16_t* __restrict x, int64_t rows, int64_t columns, float scale,
                                       float* __restrict work) {
  const int64_t whole = columns - columns % kLanes;
  for (int64_t row = 0; row < rows; ++row, x += columns) {
    float lanes[kLanes];
    for (auto& lane : lanes) lane = -std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        const float value = scale * from_bfloat16(x[i + j]);
        work[i + j] = value;
        lanes[j] = value > lanes[j] ? value : lanes[j];
      }
    }
    for (int64_t i = whole; i < columns; ++i) {
      work[i] = scale * from_bfloat16(x[i]);
      lanes[0] = work[i] > lanes[0] ? work[i] : lanes[0];
    }
    float most = lanes[0];
    for (const float lane : lanes) most = lane > most ? lane : most;
    for (auto& lane : lanes) lane = 0;
    for (int64_t i = 0; i < whole; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) {
        work[i + j] = exponential(work[i + j] - most);
        lanes[j] += work[i + j];
      }
    }
    for (int64_t i = whole; i < columns; ++i) {
      work[i] = exponential(work[i] - most);
      lanes[0] += work[i];
    }
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    const float factor = 1.0f / sum;
    for (int64_t i = 0; i < columns; ++i) x[i] = to_bfloat16(work[i] * factor);
  }
}

}  // namespace nextscale::kernels
