#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace nextscale {

/// `numpy.random.RandomState(seed).permutation(n)` for `std::mt19937 generator(seed)`; the generator goes on where
/// numpy's would. Fisher-Yates from the end, positions by masked rejection of 32-bit draws (numpy's legacy stream,
/// which numpy keeps as it is).
/// @param n 0 … 2^32
/// @throws Error failure for another n
std::vector<int64_t> numpy_permutation(std::mt19937& generator, int64_t n);

/// `RandomState.choice(n, m, replace=False)`: the first m of a permutation of all n.
/// @throws Error failure unless 0 <= m <= n
std::vector<int64_t> numpy_choice(std::mt19937& generator, int64_t n, int64_t m);

}  // namespace nextscale
