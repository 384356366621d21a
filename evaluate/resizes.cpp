#include "nextscale/evaluate/resizes.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/vectorised.h"
#include "nextscale/data/resample_weights.h"

namespace nextscale {
namespace {

constexpr int64_t kChannels = 3;

struct Neighbours1d {
  std::vector<int64_t> low, high;
  std::vector<float> share;  // of the higher one
};

Neighbours1d tensorflow_neighbours(int64_t in, int64_t out) {
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  Neighbours1d neighbours;
  for (int64_t i = 0; i < out; ++i) {
    const float source = static_cast<float>(i) * scale;
    const auto low = static_cast<int64_t>(source);
    neighbours.low.push_back(low);
    neighbours.high.push_back(std::min(low + 1, in - 1));
    neighbours.share.push_back(source - static_cast<float>(low));
  }
  return neighbours;
}

NEXTSCALE_VECTORISED void blend(const float* __restrict low, const float* __restrict high, float share,
                                float* __restrict out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = low[i] + (high[i] - low[i]) * share;
}

void widen(const uint8_t* row, const Neighbours1d& columns, float* out) {
  for (size_t x = 0; x < columns.low.size(); ++x, out += kChannels) {
    const auto* low = row + columns.low[x] * kChannels;
    const auto* high = row + columns.high[x] * kChannels;
    for (int64_t c = 0; c < kChannels; ++c) {
      const auto from = static_cast<float>(low[c]), to = static_cast<float>(high[c]);
      out[c] = from + (to - from) * columns.share[x];
    }
  }
}

/// out[i] = the sum over k of weights[k] * in[k * stride + i], summed in double
/// in the order of k.
NEXTSCALE_VECTORISED void weighted_sum(const float* __restrict in, int64_t stride, const double* __restrict weights,
                                       int64_t rows, float* __restrict out, int64_t count) {
  constexpr int64_t kBlock = 32;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t width = std::min(kBlock, count - begin);
    double sums[kBlock] = {};
    for (int64_t k = 0; k < rows; ++k) {
      for (int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(in[k * stride + begin + i]) * weights[k];
    }
    for (int64_t i = 0; i < width; ++i) out[begin + i] = static_cast<float>(sums[i]);
  }
}

/// (in, stride) -> (out, stride)
std::vector<float> resampled_rows(const std::vector<float>& rows, int64_t in, int64_t out, int64_t stride) {
  if (in == out) return rows;
  const auto weights = resample_weights(in, out, Filter::bicubic);
  std::vector<float> result(static_cast<size_t>(out * stride));
  for (int64_t y = 0; y < out; ++y) {
    const auto& row = weights.weight[static_cast<size_t>(y)];
    weighted_sum(rows.data() + weights.first[static_cast<size_t>(y)] * stride, stride, row.data(),
                 static_cast<int64_t>(row.size()), result.data() + y * stride, stride);
  }
  return result;
}

/// (height, width, 3) -> (width, height, 3)
std::vector<float> transposed(const std::vector<float>& picture, int64_t height, int64_t width) {
  std::vector<float> result(picture.size());
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < kChannels; ++c) {
        result[static_cast<size_t>((x * height + y) * kChannels + c)] =
            picture[static_cast<size_t>((y * width + x) * kChannels + c)];
      }
    }
  }
  return result;
}

}  // namespace

void resize_as_tensorflow(const at::Tensor& picture, int64_t side, float* out) {
  const auto whole = picture.contiguous();
  const auto* in = whole.const_data_ptr<uint8_t>();
  const int64_t height = whole.size(0), width = whole.size(1), stride = width * kChannels;
  const auto rows = tensorflow_neighbours(height, side), columns = tensorflow_neighbours(width, side);
  const auto count = side * kChannels;
  // Only two widened rows are needed at a time, and both move down.
  std::vector<float> low(static_cast<size_t>(count)), high(static_cast<size_t>(count));
  int64_t low_row = -1, high_row = -1;
  for (size_t y = 0; y < static_cast<size_t>(side); ++y, out += count) {
    if (rows.low[y] != low_row) {
      if (rows.low[y] == high_row) {
        std::swap(low, high);
        high_row = -1;
      } else {
        widen(in + rows.low[y] * stride, columns, low.data());
      }
      low_row = rows.low[y];
    }
    if (rows.high[y] != high_row) {
      widen(in + rows.high[y] * stride, columns, high.data());
      high_row = rows.high[y];
    }
    blend(low.data(), high.data(), rows.share[y], out, count);
  }
}

void resize_as_pillow(const at::Tensor& picture, int64_t side, float* out) {
  const auto whole = picture.contiguous();
  const auto* in = whole.const_data_ptr<uint8_t>();
  const int64_t height = whole.size(0), width = whole.size(1);
  std::vector<float> values(in, in + height * width * kChannels);
  if (width != side) {  // whole rows are summed faster than single pixels
    const auto lying = resampled_rows(transposed(values, height, width), width, side, height * kChannels);
    values = transposed(lying, side, height);
  }
  values = resampled_rows(values, height, side, side * kChannels);
  std::transform(values.begin(), values.end(), out, [](float v) { return std::clamp(v, 0.0f, 255.0f); });
}

at::Tensor resize_half_pixel(const at::Tensor& pictures, int64_t side) {
  return at::upsample_bilinear2d(pictures, {side, side},
                                 /*align_corners=*/false);
}

}  // namespace nextscale
