#include "nextscale/train/usage_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/data/grid.h"

namespace nextscale {
namespace {

constexpr size_t kMostColumns = 24;
constexpr int64_t kCellHeight = 4, kCellWidth = 9, kZoom = 6;

/// Dark blue, green, yellow: brighter is more also in grey print.
std::array<double, 3> heat(double share) {
  constexpr std::array<std::array<double, 3>, 4> kColours = {
      {{0.13, 0.10, 0.33}, {0.15, 0.40, 0.55}, {0.35, 0.72, 0.40}, {0.98, 0.90, 0.20}}};
  const double place = std::clamp(share, 0.0, 1.0) * (kColours.size() - 1);
  const auto low = std::min<size_t>(static_cast<size_t>(place), kColours.size() - 2);
  const double between = place - static_cast<double>(low);
  std::array<double, 3> colour{};
  for (size_t i = 0; i < 3; ++i) colour[i] = kColours[low][i] * (1 - between) + kColours[low + 1][i] * between;
  return colour;
}

struct Column {
  std::string step;
  std::vector<double> perplexities;  // a scale each
  double pictures;
};

std::vector<Column> columns_of(const std::vector<nlohmann::json>& metrics, const Scales& scales) {
  std::vector<Column> columns;
  for (const auto& line : metrics) {
    if (!line.contains("validation")) continue;
    const auto& numbers = line.at("validation");
    Column column{.step = line.at("step").dump(), .perplexities = {}, .pictures = numbers.value("pictures", 0.0)};
    for (int64_t k = 0; k < scales.count(); ++k) {
      const auto name = fmt::format("perplexity_{}x{}", scales.map(k).height, scales.map(k).width);
      if (numbers.contains(name)) column.perplexities.push_back(numbers.at(name).get<double>());
    }
    if (static_cast<int64_t>(column.perplexities.size()) == scales.count()) columns.push_back(std::move(column));
  }
  if (columns.size() > kMostColumns) {
    columns.erase(columns.begin(), columns.end() - static_cast<std::ptrdiff_t>(kMostColumns));
  }
  return columns;
}

}  // namespace

torch::Tensor usage_map(const std::vector<nlohmann::json>& metrics, const Scales& scales, int64_t codes) {
  const auto columns = columns_of(metrics, scales);
  if (columns.empty()) return {};
  const auto count = static_cast<int64_t>(columns.size());
  GridOptions options{.columns = count, .zoom = kZoom};
  auto cells = at::zeros({scales.count() * count, 3, kCellHeight, kCellWidth});
  for (const auto& column : columns) options.column_labels.push_back(column.step);
  for (int64_t k = 0; k < scales.count(); ++k) {
    options.row_labels.push_back(fmt::format("{}x{}", scales.map(k).height, scales.map(k).width));
    for (int64_t i = 0; i < count; ++i) {
      const auto& column = columns[static_cast<size_t>(i)];
      const double perplexity = column.perplexities[static_cast<size_t>(k)];
      const double most = std::min(static_cast<double>(codes), column.pictures * static_cast<double>(scales.area(k)));
      const auto colour = heat(most > 0 ? perplexity / most : 0);
      for (int64_t c = 0; c < 3; ++c) cells[k * count + i][c].fill_(colour[static_cast<size_t>(c)]);
      options.captions.push_back(fmt::format("{:.0f}", perplexity));
    }
  }
  return compose_grid(cells, options);
}

}  // namespace nextscale
