#include "nextscale/data/picture.h"

#include <memory>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/round.h>

#include "nextscale/data/exif.h"
#include "nextscale/data/picture_formats.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

// ITU-R 601 luma in 16-bit fixed point, rounded, as the reference's picture library turns RGB into grey.
at::Tensor luma(const at::Tensor& picture) {
  const auto rgb = picture.contiguous();
  auto grey = at::empty({rgb.size(0), rgb.size(1), 1}, rgb.options());
  const auto* in = rgb.const_data_ptr<uint8_t>();
  auto* out = grey.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < grey.numel(); ++i, in += 3) {
    out[i] = static_cast<uint8_t>((in[0] * 19595 + in[1] * 38470 + in[2] * 7471 + 32768) >> 16);
  }
  return grey;
}

at::Tensor rounded_bytes(const at::Tensor& unit) {
  auto bytes = at::nan_to_num(unit.mul(255), 0.0).clamp(0, 255).round().to(at::kByte);
  return bytes.movedim(-3, -1).contiguous().cpu();
}

/// (H, W, 1 or 3) contiguous, of what may lack its last dimension.
at::Tensor writable(const at::Tensor& picture) {
  TORCH_CHECK(picture.scalar_type() == at::kByte && (picture.dim() == 2 || picture.dim() == 3), "uint8 (H, W[, C])");
  const auto values = (picture.dim() == 2 ? picture.unsqueeze(2) : picture).contiguous();
  TORCH_CHECK(values.size(2) == 1 || values.size(2) == 3, "1 or 3 channels");
  return values;
}

}  // namespace

at::Tensor decode_picture(std::span<const std::byte> bytes, int64_t channels, const std::string& where, Exif exif) {
  auto pixels = formats::decode({.bytes = bytes, .where = where});
  auto owner = std::make_shared<std::vector<uint8_t>>(std::move(pixels.values));
  auto* data = owner->data();
  const auto picture =
      at::from_blob(data, {pixels.height, pixels.width, pixels.channels}, [owner](void*) {}, at::kByte);
  return with_channels(exif == Exif::applied ? upright(picture, exif_orientation(bytes)) : picture, channels);
}

at::Tensor upright(const at::Tensor& picture, int orientation) {
  const bool lies = orientation >= 5;  // stored columns are seen as rows
  const bool right_to_left = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool bottom_up = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  auto seen = lies ? picture.transpose(0, 1) : picture;
  if (right_to_left) seen = seen.flip(1);
  if (bottom_up) seen = seen.flip(0);
  return seen.contiguous();
}

at::Tensor read_picture(const std::filesystem::path& path, int64_t channels) {
  return decode_picture(map_file(path).bytes, channels, path.string());
}

at::Tensor with_channels(const at::Tensor& picture, int64_t channels) {
  if (picture.size(2) == channels) return picture;
  return channels == 1 ? luma(picture) : picture.expand({picture.size(0), picture.size(1), channels});
}

PictureSize picture_size(std::span<const std::byte> bytes, const std::string& where, Exif exif) {
  const auto pixels = formats::decode({.bytes = bytes, .where = where, .size_only = true});
  if (exif == Exif::applied && exif_orientation(bytes) >= 5) return {.height = pixels.width, .width = pixels.height};
  return {.height = pixels.height, .width = pixels.width};
}

bool has_transparency(std::span<const std::byte> bytes, const std::string& where) {
  return formats::decode({.bytes = bytes, .where = where, .size_only = true}).alpha;
}

at::Tensor to_network_range(const at::Tensor& pictures) {
  auto x = pictures.to(at::kFloat).div_(255);
  return x.add_(x).sub_(1);
}

at::Tensor bytes_from_network_range(const at::Tensor& pictures) {
  return rounded_bytes(pictures.detach().to(at::kFloat).add(1).mul_(0.5));
}

at::Tensor bytes_from_unit_range(const at::Tensor& pictures) { return rounded_bytes(pictures.detach().to(at::kFloat)); }

std::string encode_png(const at::Tensor& picture) {
  const auto values = writable(picture);
  return formats::encode_png(values.const_data_ptr<uint8_t>(), values.size(0), values.size(1), values.size(2));
}

std::string encode_jpeg(const at::Tensor& picture, int64_t quality) {
  const auto values = writable(picture);
  return formats::encode_jpeg(values.const_data_ptr<uint8_t>(), values.size(0), values.size(1), values.size(2),
                              static_cast<int>(quality));
}

void write_png(const std::filesystem::path& path, const at::Tensor& picture, Sync sync, FileOperations& operations) {
  AtomicFile file(path, operations);
  file.write(as_bytes(encode_png(picture)));
  file.commit(sync);
}

}  // namespace nextscale
