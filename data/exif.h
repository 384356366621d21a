#pragma once

#include <cstddef>
#include <span>

namespace nextscale {

/// How a camera held the picture: EXIF's orientation 1 to 8 of a JPEG (APP1 segment), PNG (eXIf chunk) or WebP file
/// (EXIF chunk). 1, as stored, for every other file, TIFF among them (its decoder turns it), where there is none, and
/// where it is damaged: a picture without a valid orientation is a picture all the same.
int exif_orientation(std::span<const std::byte> file);

}  // namespace nextscale
