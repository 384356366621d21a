#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace nextscale::cli {

/// What write_npz_of_pictures will write, but for some headers.
constexpr uint64_t npz_bytes(int64_t pictures, int64_t side) {
  return static_cast<uint64_t>(pictures * (3 * side * side + 8));
}

/// The order that N alone decides: position i of the npz holds picture order[i].
std::vector<int64_t> npz_order(int64_t count);

/// Pictures that `sample` has written, as one .npz in the layout of ADM's evaluator: arr_0 uint8 (N, H, W, 3), arr_1
/// int64 (N) labels. Streamed picture by picture. Unless the order is kept, it is a permutation that N alone decides:
/// the evaluator computes the Inception Score over consecutive blocks, which sets sorted by class ruin.
/// @param folder of the pictures, named by picture_name
/// @throws Error failure, the file complete or not there
void write_npz_of_pictures(const std::filesystem::path& npz, const std::filesystem::path& folder,
                           const std::vector<int64_t>& labels, bool keep_order, bool quiet);

}  // namespace nextscale::cli
