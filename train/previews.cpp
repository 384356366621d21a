#include "nextscale/train/previews.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/data/grid.h"

namespace nextscale {

torch::Tensor reconstruction_grid(const torch::Tensor& inputs, const std::vector<torch::Tensor>& after_scale,
                                  const Scales& scales) {
  std::vector<torch::Tensor> columns = {inputs, after_scale.back()};
  GridOptions options{.column_labels = {"input", "decoded"}};
  for (int64_t k = 0; k + 1 < scales.count(); ++k) {
    columns.push_back(after_scale[static_cast<size_t>(k)]);
    options.column_labels.push_back(fmt::format("{}x{}", scales.map(k).height, scales.map(k).width));
  }
  options.columns = static_cast<int64_t>(columns.size());
  for (auto& column : columns) column = column.to(at::kCPU, at::kFloat);
  const auto rows = at::stack(columns, 1);  // (N, columns, C, H, W)
  return compose_grid((rows.flatten(0, 1) + 1) / 2, options);
}

}  // namespace nextscale
