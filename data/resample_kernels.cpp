#include "nextscale/data/resample_kernels.h"

#include <algorithm>

#include "nextscale/base/vectorised.h"

namespace nextscale::kernels {
namespace {

constexpr int64_t kBlock = 64;  // sums that stay in registers
constexpr int64_t kTile = 16;   // pixels a side: both pictures' lines stay in the nearest cache
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

template <int kChannels>
void transpose_tiles(const uint8_t* in, uint8_t* out, int64_t height, int64_t width) {
  for (int64_t top = 0; top < height; top += kTile) {
    const int64_t bottom = std::min(top + kTile, height);
    for (int64_t x = 0; x < width; ++x) {
      const uint8_t* from = in + (top * width + x) * kChannels;
      uint8_t* to = out + (x * height + top) * kChannels;
      for (int64_t y = top; y < bottom; ++y, from += width * kChannels, to += kChannels) {
        for (int c = 0; c < kChannels; ++c) to[c] = from[c];
      }
    }
  }
}

}  // namespace

NEXTSCALE_VECTORISED void weighted_rows(const uint8_t* __restrict in, int64_t stride, const int32_t* __restrict weights,
                                        int64_t rows, uint8_t* __restrict out, int64_t count) {
  for (; count > 0; in += kBlock, out += kBlock, count -= kBlock) {
    int32_t sums[kBlock];
    for (int64_t i = 0; i < kBlock; ++i) sums[i] = kHalf;
    if (count >= kBlock) {  // a constant width is what vectorises
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t i = 0; i < kBlock; ++i) sums[i] += weights[k] * in[k * stride + i];
      }
    } else {
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t i = 0; i < count; ++i) sums[i] += weights[k] * in[k * stride + i];
      }
    }
    const int64_t width = count < kBlock ? count : kBlock;
    for (int64_t i = 0; i < width; ++i) {
      const int32_t value = sums[i] >> kFractionBits;
      out[i] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }
}

void transpose_pixels(const uint8_t* in, uint8_t* out, int64_t height, int64_t width, int64_t channels) {
  channels == 1 ? transpose_tiles<1>(in, out, height, width) : transpose_tiles<3>(in, out, height, width);
}

}  // namespace nextscale::kernels
