#pragma once

#include <cstdint>
#include <vector>

namespace nextscale {

enum class Filter {
  lanczos,  ///< three lobes
  bicubic,  ///< a = -0.5, two lobes
};

/// Which input values make output value i, and with which weights.
struct ResampleWeights {
  std::vector<int64_t> first;               ///< by output value: the first input value
  std::vector<std::vector<double>> weight;  ///< by output value: of input values first, first + 1, …; their sum is 1
};

/// Pillow's rule: the filter stands at the middle of output value i and is widened when shrinking (antialiased); what
/// reaches over the edge is left out and the rest normalised.
ResampleWeights resample_weights(int64_t input, int64_t output, Filter filter);

}  // namespace nextscale
