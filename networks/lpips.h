#pragma once

#include <filesystem>
#include <string>

#include "nextscale/networks/perceptual_distance.h"

namespace nextscale {

enum class LpipsTrunk { vgg16, squeezenet };

/// The published files as scripts/download-weights.sh names them.
struct LpipsFiles {
  std::string trunk;            ///< torchvision's: "vgg16-397923af.pth", "squeezenet1_1-b8a52dc0.pth"
  std::string heads;            ///< the lpips package's, version 0.1: "lpips-vgg.pth", "lpips-squeeze.pth"
  std::string command() const;  ///< "scripts/download-weights.sh FOLDER …"
};
LpipsFiles lpips_files(LpipsTrunk trunk);

/// LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1, with the weights that constructors give.
PerceptualDistance make_lpips(LpipsTrunk trunk, UnitForm unit = UnitForm::training);

/// With the published weights of a folder.
/// @throws Error failure: a file that is not there, with the command that fetches it; names, shapes or values that are
/// not those of the network
PerceptualDistance load_lpips(LpipsTrunk trunk, const std::filesystem::path& folder,
                              UnitForm unit = UnitForm::training);
/// The same of two files of any names, as torch.save writes them (both forms) or safetensors.
PerceptualDistance load_lpips(LpipsTrunk trunk, const std::filesystem::path& trunk_file,
                              const std::filesystem::path& heads_file, UnitForm unit = UnitForm::training);

}  // namespace nextscale
