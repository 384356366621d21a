#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nextscale {

struct GridOptions {
  int64_t columns = 0;                       ///< pictures a row; 0 = all in one row
  int64_t zoom = 0;                          ///< a pixel becomes zoom x zoom; 0 = the smallest that makes 64 pixels
  std::vector<std::string> row_labels{};     ///< text left of each row; fewer than rows = none for the rest
  std::vector<std::string> column_labels{};  ///< text above each column
  std::vector<std::string> captions{};       ///< text below each picture, cut to its width
};

/// Pictures in rows, enlarged by a whole factor (nearest neighbour, so that single pixels stay visible), with text
/// around them, on white. For previews, galleries and strips.
/// @param pictures (N, C, H, W), C 1 or 3; float in [0, 1] (clamped, rounded to nearest) or uint8; any device
/// @returns (height, width, 3) uint8 RGB on the CPU; cells without a picture stay white
/// @throws Error failure if the shape is another
at::Tensor compose_grid(const at::Tensor& pictures, const GridOptions& options = {});

}  // namespace nextscale
