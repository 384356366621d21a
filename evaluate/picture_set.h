#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "nextscale/base/options.h"
#include "nextscale/data/dataset.h"
#include "nextscale/io/npz.h"

namespace nextscale {

/// How pictures of another size than --side are brought to it: as the tokenizer's validation sees them.
struct CropSettings {
  int64_t side = 0;  ///< 0 = pictures as they are, which must all have one size
  double mid_reso = 1.125;
};

/// Pictures to be scored, in a fixed order, as uint8 (H, W, 3):
/// - a folder with all below it, sorted; where names end with "_classNNN", those alone (a grid beside them is none);
/// - a tar file (.tar, .tar.gz, .tgz) the same;
/// - an IDX file of pictures (train-images-idx3-ubyte.gz) with the labels beside it;
/// - an .npz in ADM's layout: arr_0 uint8 (N, H, W, 3), labels in arr_1 where they are there. Stored archives are
///   mapped, compressed ones unpacked.
/// Labels are those of the names, of class folders (sorted), of arr_1, or -1.
/// @throws Error failure naming path, member, what was expected and what came: nothing there, no pictures, an .npz of
/// another layout. A damaged or transparent picture is told when it is decoded.
std::shared_ptr<const Dataset> open_picture_set(const std::filesystem::path& path, const CropSettings& crop = {});
/// The pictures of an open .npz.
std::shared_ptr<const Dataset> pictures_of_npz(std::shared_ptr<NpzFile> npz, const std::string& where,
                                               const CropSettings& crop = {});

/// Cut as `crop` says. @param picture (H, W, 3) uint8
at::Tensor cropped(const at::Tensor& picture, const CropSettings& crop);

}  // namespace nextscale
