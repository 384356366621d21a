#include "nextscale/evaluate/numpy_order.h"

#include <bit>
#include <numeric>
#include <string>
#include <utility>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

/// Uniform in 0 … largest: numpy's random_interval.
uint64_t drawn(std::mt19937& generator, uint64_t largest) {
  const uint64_t mask = (uint64_t{1} << std::bit_width(largest)) - 1;
  uint64_t value = generator() & mask;
  while (value > largest) value = generator() & mask;
  return value;
}

}  // namespace

std::vector<int64_t> numpy_permutation(std::mt19937& generator, int64_t n) {
  constexpr int64_t kMost = int64_t{1} << 32;  // above it numpy draws 64 bits
  if (n < 0 || n > kMost) throw failure({"permutation", "number of rows", "0 to 2^32", std::to_string(n)});
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[drawn(generator, i - 1)]);
  return order;
}

std::vector<int64_t> numpy_choice(std::mt19937& generator, int64_t n, int64_t m) {
  if (m < 0 || m > n) {
    throw failure({"choice without replacement", "too few rows", "at least " + std::to_string(m), std::to_string(n)});
  }
  auto order = numpy_permutation(generator, n);
  order.resize(static_cast<size_t>(m));
  return order;
}

}  // namespace nextscale
