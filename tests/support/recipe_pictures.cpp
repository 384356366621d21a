#include "nextscale/tests/support/recipe_pictures.h"

#include <algorithm>
#include <stdexcept>

#include <ATen/ATen.h>

#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {
namespace {

at::Tensor blocks(const std::string& name, int64_t height, int64_t width) {
  const int64_t side = std::max(height, width) / 16;
  const auto grid = recipe_integers(name, {(height + side - 1) / side, (width + side - 1) / side, 3}, 256);
  const auto cells = [&](int64_t length) { return at::arange(length).floor_divide(side); };
  return grid.index_select(0, cells(height)).index_select(1, cells(width));
}

at::Tensor smooth(const std::string& name, int64_t height, int64_t width) {
  const auto parameters = recipe_integers(name, {3, 3}, 512);
  const auto phases = [](int64_t length, int64_t waves) {
    return (at::arange(length) * waves * 512).floor_divide(length);
  };
  std::vector<at::Tensor> channels;
  for (int64_t c = 0; c < 3; ++c) {
    const auto parameter = [&](int64_t i) { return parameters[c][i].item<int64_t>(); };
    const auto columns = phases(width, 1 + parameter(0) % 7), rows = phases(height, 1 + parameter(1) % 5);
    const auto t = (columns.unsqueeze(0) + rows.unsqueeze(1) + parameter(2)).remainder(512);  // (height, width)
    channels.push_back(at::minimum(t, 511 - t));
  }
  return at::stack(channels, 2);
}

}  // namespace

at::Tensor recipe_picture(const std::string& name, const std::string& kind, int64_t height, int64_t width) {
  if (kind == "noise") return recipe_integers(name, {height, width, 3}, 256).to(at::kByte);
  if (kind == "white") return at::full({height, width, 3}, 255, at::kByte);
  if (kind == "black") return at::zeros({height, width, 3}, at::kByte);
  if (kind == "blocks") return blocks(name, height, width).to(at::kByte);
  if (kind == "smooth") return smooth(name, height, width).to(at::kByte);
  throw std::invalid_argument("no such kind of picture: " + kind);
}

}  // namespace nextscale::testing
