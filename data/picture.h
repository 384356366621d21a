#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include "nextscale/data/pixel_limit.h"
#include "nextscale/io/atomic_file.h"

namespace nextscale {

struct PictureSize {
  int64_t height = 0, width = 0;
  bool operator==(const PictureSize&) const = default;
};

/// Whether a picture is turned as its EXIF orientation says (data/exif.h); the reference ignores it.
enum class Exif { ignored, applied };

/// Decodes JPEG, PNG, WebP, BMP, TIFF, PNM and GIF (first frame), recognised by content, not by name. As the reference
/// does: not rotated by EXIF unless asked for, alpha dropped and not composited, colour profiles and gamma ignored,
/// 16-bit channels cut to their high byte, CMYK turned into RGB.
/// @param channels 3: RGB, grey pictures repeated; 1: luma (ITU-R 601) of colour pictures
/// @param where names the picture in errors
/// @returns (H, W, channels) uint8
/// @throws Error failure: no picture, damaged or cut off, too many pixels. Nothing is printed by the codecs.
at::Tensor decode_picture(std::span<const std::byte> bytes, int64_t channels, const std::string& where,
                          Exif exif = Exif::ignored);
/// The same of a file. @throws Error failure naming it
at::Tensor read_picture(const std::filesystem::path& path, int64_t channels);
/// From the header alone.
PictureSize picture_size(std::span<const std::byte> bytes, const std::string& where, Exif exif = Exif::ignored);

/// Whether a PNG or WebP has an alpha channel or a transparent colour, from the header alone.
bool has_transparency(std::span<const std::byte> bytes, const std::string& where);

/// A picture as it is seen, of one that was stored with an EXIF orientation (1 to 8).
/// @param picture (H, W, C)
at::Tensor upright(const at::Tensor& picture, int orientation);

/// (H, W, 1 or 3) uint8 with 1 or 3 channels: repeated (a view), or luma.
at::Tensor with_channels(const at::Tensor& picture, int64_t channels);

/// What the network eats: u8 / 255 in float32, then x + x - 1, exactly as the reference rounds it.
/// @param pictures uint8, any shape
at::Tensor to_network_range(const at::Tensor& pictures);
/// [-1, 1] to uint8, rounded to nearest (half to even), clamped; NaN becomes 0.
/// @param pictures (..., C, H, W) float on any device
/// @returns (..., H, W, C) uint8 on the CPU
at::Tensor bytes_from_network_range(const at::Tensor& pictures);
/// The same from [0, 1].
at::Tensor bytes_from_unit_range(const at::Tensor& pictures);

/// PNG file of (H, W), (H, W, 1) or (H, W, 3) uint8, as bytes.
std::string encode_png(const at::Tensor& picture);
/// The same as JPEG, colour at half the resolution (4:2:0), as most programs write it.
/// @param quality 1 to 100, libjpeg's
std::string encode_jpeg(const at::Tensor& picture, int64_t quality);
/// Complete or not there. @throws Error failure naming the file
void write_png(const std::filesystem::path& path, const at::Tensor& picture, Sync sync = Sync::now,
               FileOperations& operations = system_files());

}  // namespace nextscale
