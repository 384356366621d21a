#include "nextscale/sample/gallery.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/data/grid.h"
#include "nextscale/data/picture.h"

namespace nextscale {
namespace {

void check_counts(int64_t pictures, const std::vector<int64_t>& labels) {
  if (pictures == static_cast<int64_t>(labels.size()) && pictures > 0) return;
  throw failure({"gallery", "each picture needs a label", std::to_string(pictures), std::to_string(labels.size())});
}

at::Tensor captioned(const at::Tensor& pictures, const std::vector<int64_t>& labels,
                     const std::vector<std::string>& class_names) {
  GridOptions options;
  options.columns = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(labels.size()))));
  for (const int64_t label : labels) options.captions.push_back(label_text(label, class_names));
  return compose_grid(pictures, options);
}

}  // namespace

std::string label_text(int64_t label, const std::vector<std::string>& class_names) {
  if (label < 0) return "no label";
  const auto index = static_cast<size_t>(label);
  const auto number = std::to_string(label);
  // Data without names has the numbers in their place.
  if (index >= class_names.size() || class_names[index] == number) return "class " + number;
  return number + " " + class_names[index];
}

at::Tensor class_grid(const at::Tensor& pictures, const std::vector<int64_t>& labels,
                      const std::vector<std::string>& class_names) {
  check_counts(pictures.size(0), labels);
  std::map<int64_t, std::vector<int64_t>> of_class;  // label -> positions
  for (size_t i = 0; i < labels.size(); ++i) of_class[labels[i]].push_back(static_cast<int64_t>(i));
  size_t most = 0;
  for (const auto& [label, positions] : of_class) most = std::max(most, positions.size());
  if (most == 1) return captioned(pictures, labels, class_names);

  GridOptions options;
  options.columns = static_cast<int64_t>(most);
  const auto bytes =
      pictures.scalar_type() == at::kByte ? pictures.cpu() : bytes_from_unit_range(pictures).permute({0, 3, 1, 2});
  const auto rows = static_cast<int64_t>(of_class.size());
  auto cells = at::full({rows * options.columns, bytes.size(1), bytes.size(2), bytes.size(3)}, 255,
                        bytes.options());  // white where a class has fewer pictures
  int64_t row = 0;
  for (const auto& [label, positions] : of_class) {
    options.row_labels.push_back(label_text(label, class_names));
    cells.narrow(0, row++ * options.columns, static_cast<int64_t>(positions.size()))
        .copy_(bytes.index_select(0, at::tensor(positions, bytes.options().dtype(at::kLong))));
  }
  return compose_grid(cells, options);
}

at::Tensor scale_strip(const std::vector<at::Tensor>& after_scale, const std::vector<std::string>& scale_names,
                       const std::vector<int64_t>& labels, const std::vector<std::string>& class_names) {
  if (after_scale.empty()) throw failure({.where = "scale strip", .what = "no scales"});
  check_counts(after_scale.front().size(0), labels);
  GridOptions options;
  options.columns = static_cast<int64_t>(after_scale.size());
  options.column_labels = scale_names;
  for (const int64_t label : labels) options.row_labels.push_back(label_text(label, class_names));
  return compose_grid(at::stack(after_scale, 1).flatten(0, 1), options);  // (N * K, C, H, W)
}

}  // namespace nextscale
