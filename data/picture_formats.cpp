#include "nextscale/data/picture_formats.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/data/pixel_limit.h"
#include "nextscale/io/bytes.h"

namespace nextscale::formats {

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

Pixels decode(const Request& request) {
  const auto text = as_text(request.bytes);
  const auto starts = [&](std::string_view magic) { return text.substr(0, magic.size()) == magic; };
  if (starts("\xff\xd8\xff")) return decode_jpeg(request);
  if (starts("\x89PNG\r\n\x1a\n")) return decode_png(request);
  if (starts("GIF87a") || starts("GIF89a")) return decode_gif(request);
  const bool webp = starts("RIFF") && text.size() > 12 && text.substr(8, 4) == "WEBP";
  const bool tiff = starts(std::string_view("II*\0", 4)) || starts(std::string_view("MM\0*", 4));
  const bool pnm = text.size() > 2 && text[0] == 'P' && text[1] >= '1' && text[1] <= '6';
  if (webp || tiff || pnm || starts("BM")) return decode_other(request);
  throw failure({.where = request.where,
                 .what = text.empty() ? "empty file" : "not a picture",
                 .expected = "JPEG, PNG, WebP, BMP, TIFF, PNM or GIF",
                 .got = {}});
}

}  // namespace nextscale::formats
