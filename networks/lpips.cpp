#include "nextscale/networks/lpips.h"

#include "nextscale/io/weights.h"
#include "nextscale/networks/published_files.h"
#include "nextscale/networks/squeezenet.h"
#include "nextscale/networks/vgg16.h"

namespace nextscale {
namespace {

/// ImageNet's mean and deviation of pictures in [0, 1], as seen from [-1, 1].
constexpr PerceptualRange kRange{.shift = {-0.030, -0.088, -0.188}, .scale = {0.458, 0.448, 0.450}};

}  // namespace

std::string LpipsFiles::command() const { return "scripts/download-weights.sh FOLDER " + trunk + " " + heads; }

LpipsFiles lpips_files(LpipsTrunk trunk) {
  if (trunk == LpipsTrunk::vgg16) return {"vgg16-397923af.pth", "lpips-vgg.pth"};
  return {"squeezenet1_1-b8a52dc0.pth", "lpips-squeeze.pth"};
}

PerceptualDistance make_lpips(LpipsTrunk trunk, UnitForm unit) {
  const bool is_vgg = trunk == LpipsTrunk::vgg16;
  std::shared_ptr<PerceptualTrunk> network;
  if (is_vgg) {
    network = std::make_shared<Vgg16Impl>();
  } else {
    network = std::make_shared<SqueezeNetImpl>();
  }
  return PerceptualDistance(
      std::move(network),
      PerceptualDistanceOptions{
          .name = is_vgg ? "LPIPS (VGG16)" : "LPIPS (SqueezeNet 1.1)", .range = kRange, .unit = unit});
}

PerceptualDistance load_lpips(LpipsTrunk trunk, const std::filesystem::path& folder, UnitForm unit) {
  const auto files = lpips_files(trunk);
  return load_lpips(trunk, folder / files.trunk, folder / files.heads, unit);
}

PerceptualDistance load_lpips(LpipsTrunk trunk, const std::filesystem::path& trunk_file,
                              const std::filesystem::path& heads_file, UnitForm unit) {
  const auto command = lpips_files(trunk).command();
  for (const auto* file : {&trunk_file, &heads_file}) expect_published(*file, command);
  auto distance = make_lpips(trunk, unit);
  distance->load_heads(read_weights(heads_file).tensors, heads_file.string());
  distance->load_trunk(read_weights(trunk_file).tensors, trunk_file.string());
  return distance;
}

}  // namespace nextscale
