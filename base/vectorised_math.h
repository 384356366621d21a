#pragma once

#include <cstdint>

/// What the loops of NEXTSCALE_VECTORISED functions share: without branches and calls, so that they vectorise.
namespace nextscale::kernels {

/// e^x to 2e-7 relative: 2^n by the exponent's bits, the rest by a polynomial.
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

[[gnu::always_inline]] inline float from_bfloat16(uint16_t x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16);
}

/// To nearest even.
[[gnu::always_inline]] inline uint16_t to_bfloat16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  // The carry would turn some NaN into infinity.
  return static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

}  // namespace nextscale::kernels
