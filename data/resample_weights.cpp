#include "nextscale/data/resample_weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace nextscale {
namespace {

double sinc(double x) {
  if (x == 0.0) return 1.0;
  const double t = x * std::numbers::pi;
  return std::sin(t) / t;
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

}  // namespace

ResampleWeights resample_weights(int64_t input, int64_t output, Filter filter) {
  const auto value = filter == Filter::lanczos ? lanczos : bicubic;
  const double scale = static_cast<double>(input) / static_cast<double>(output);
  const double stretch = std::max(scale, 1.0);  // shrinking widens the filter
  const double support = (filter == Filter::lanczos ? 3.0 : 2.0) * stretch;
  const double inverse = 1.0 / stretch;
  ResampleWeights weights;
  for (int64_t i = 0; i < output; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const auto last = std::min(input, static_cast<int64_t>(center + support + 0.5));
    std::vector<double> row;
    double sum = 0.0;
    for (int64_t x = first; x < last; ++x) {
      row.push_back(value((static_cast<double>(x) - center + 0.5) * inverse));
      sum += row.back();
    }
    if (sum != 0.0) {
      for (double& w : row) w /= sum;
    }
    weights.first.push_back(first);
    weights.weight.push_back(std::move(row));
  }
  return weights;
}

}  // namespace nextscale
