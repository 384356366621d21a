#pragma once

#include <cstdint>

namespace nextscale::kernels {

inline constexpr int kFractionBits = 22;  ///< of resampling weights: 32 less 8 of the pixel and 2 for overshoot

/// out[i] = the sum over k of weights[k] * in[k * stride + i], rounded and clipped to 8 bit; i < count.
void weighted_rows(const uint8_t* in, int64_t stride, const int32_t* weights, int64_t rows, uint8_t* out,
                   int64_t count);
/// (height, width, channels) -> (width, height, channels)
void transpose_pixels(const uint8_t* in, uint8_t* out, int64_t height, int64_t width, int64_t channels);

}  // namespace nextscale::kernels
