#include "nextscale/data/picture.h"

#include <cstdio>
#include <cstring>
#include <memory>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/round.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/data/picture_formats.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace formats {

void refuse(const Request& request, std::string_view format, std::string_view why) {
  throw failure({.where = request.where, .what = fmt::format("damaged picture: {}: {}", format, why)});
}

void check_size(const Request& request, int64_t height, int64_t width) {
  if (height < 1 || width < 1) {
    throw failure({.where = request.where,
                   .what = "damaged picture",
                   .expected = "at least one pixel",
                   .got = fmt::format("{} x {}", width, height)});
  }
  if (height > kPixelLimit / width) {
    throw failure({.where = request.where,
                   .what = "picture is too large",
                   .expected = fmt::format("at most {} pixels", kPixelLimit),
                   .got = fmt::format("{} x {}", width, height)});
  }
}

}  // namespace formats

namespace {

formats::Pixels decode(const formats::Request& request) {
  const auto text = as_text(request.bytes);
  const auto starts = [&](std::string_view magic) { return text.substr(0, magic.size()) == magic; };
  if (starts("\xff\xd8\xff")) return formats::decode_jpeg(request);
  if (starts("\x89PNG\r\n\x1a\n")) return formats::decode_png(request);
  if (starts("GIF87a") || starts("GIF89a")) return formats::decode_gif(request);
  const bool webp = starts("RIFF") && text.size() > 12 && text.substr(8, 4) == "WEBP";
  const bool tiff = starts(std::string_view("II*\0", 4)) || starts(std::string_view("MM\0*", 4));
  const bool pnm = text.size() > 2 && text[0] == 'P' && text[1] >= '1' && text[1] <= '6';
  if (webp || tiff || pnm || starts("BM")) return formats::decode_other(request);
  throw failure({.where = request.where,
                 .what = text.empty() ? "empty file" : "not a picture",
                 .expected = "JPEG, PNG, WebP, BMP, TIFF, PNM or GIF",
                 .got = {}});
}

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

}  // namespace

at::Tensor decode_picture(std::span<const std::byte> bytes, int64_t channels, const std::string& where) {
  auto pixels = decode({.bytes = bytes, .where = where});
  auto owner = std::make_shared<std::vector<uint8_t>>(std::move(pixels.values));
  auto* data = owner->data();
  const auto picture =
      at::from_blob(data, {pixels.height, pixels.width, pixels.channels}, [owner](void*) {}, at::kByte);
  return with_channels(picture, channels);
}

at::Tensor read_picture(const std::filesystem::path& path, int64_t channels) {
  return decode_picture(map_file(path).bytes, channels, path.string());
}

at::Tensor with_channels(const at::Tensor& picture, int64_t channels) {
  if (picture.size(2) == channels) return picture;
  return channels == 1 ? luma(picture) : picture.expand({picture.size(0), picture.size(1), channels});
}

PictureSize picture_size(std::span<const std::byte> bytes, const std::string& where) {
  const auto pixels = decode({.bytes = bytes, .where = where, .size_only = true});
  return {.height = pixels.height, .width = pixels.width};
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
  const auto values = picture.contiguous();
  const int64_t channels = values.dim() == 3 ? values.size(2) : 1;
  TORCH_CHECK(values.scalar_type() == at::kByte && (values.dim() == 2 || values.dim() == 3), "uint8 (H, W[, C])");
  TORCH_CHECK(channels == 1 || channels == 3, "1 or 3 channels");
  return formats::encode_png(values.const_data_ptr<uint8_t>(), values.size(0), values.size(1), channels);
}

void write_png(const std::filesystem::path& path, const at::Tensor& picture, Sync sync) {
  AtomicFile file(path);
  file.write(as_bytes(encode_png(picture)));
  file.commit(sync);
}

}  // namespace nextscale
