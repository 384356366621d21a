#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nextscale::formats {

/// A decoded picture before it becomes a tensor: rows of pixels, 1 or 3 values each. Asked for the size alone, `values`
/// stays empty.
struct Pixels {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> values;
  bool alpha = false;  ///< of PNG and WebP: an alpha channel or a transparent colour, which was dropped
};

struct Request {
  std::span<const std::byte> bytes;
  const std::string& where;  ///< names the picture in errors
  bool size_only = false;
};

/// @throws Error failure "WHERE: damaged picture: JPEG: …"
[[noreturn]] void refuse(const Request& request, std::string_view format, std::string_view why);
/// @throws Error failure for an empty picture or one with more than kPixelLimit pixels; before any memory is taken
void check_size(const Request& request, int64_t height, int64_t width);

/// Any format, by content. @throws Error failure as decode_picture (data/picture.h)
Pixels decode(const Request& request);
Pixels decode_jpeg(const Request& request);
Pixels decode_png(const Request& request);
Pixels decode_gif(const Request& request);
/// BMP, TIFF, WebP and PNM.
Pixels decode_other(const Request& request);
/// @param values height * width * channels bytes
std::string encode_png(const uint8_t* values, int64_t height, int64_t width, int64_t channels);
/// @param quality 1 to 100, libjpeg's
std::string encode_jpeg(const uint8_t* values, int64_t height, int64_t width, int64_t channels, int quality);

}  // namespace nextscale::formats
