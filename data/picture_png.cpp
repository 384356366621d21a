#include <csetjmp>
#include <cstring>

#include <png.h>

#include "nextscale/data/picture_formats.h"

// libpng itself and not through OpenCV, whose libpng writes errors and warnings ("known incorrect sRGB profile") to
// stderr.
namespace nextscale::formats {
namespace {

struct PngDecoder {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const std::byte> left;
  char message[128] = "";

  explicit PngDecoder(std::span<const std::byte> bytes);
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;
};

[[noreturn]] void stop(png_structp png, png_const_charp message) {
  auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
  std::strncpy(decoder->message, message, sizeof(decoder->message) - 1);
  png_longjmp(png, 1);
}

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (decoder->left.size() < count) png_error(png, "the file ends early");
  std::memcpy(out, decoder->left.data(), count);
  decoder->left = decoder->left.subspan(count);
}

PngDecoder::PngDecoder(std::span<const std::byte> bytes) : left(bytes) {
  png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, stop, [](png_structp, png_const_charp) {});
  if (png) info = png_create_info_struct(png);
  if (!info) throw std::bad_alloc();
  png_set_read_fn(png, this, read_bytes);
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff);  // ours counts pixels
  // Profiles, texts and EXIF are not looked at here, and for some of them libpng takes as much memory as they claim.
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
}

// Runs libpng calls that may jump out; `calls` must own nothing that needs a destructor.
template <class Calls>
bool completes(PngDecoder& decoder, const Calls& calls) {
  if (setjmp(png_jmpbuf(decoder.png))) return false;
  calls();
  return true;
}

}  // namespace

Pixels decode_png(const Request& request) {
  PngDecoder decoder(request.bytes);
  if (!completes(decoder, [&] { png_read_info(decoder.png, decoder.info); })) refuse(request, "PNG", decoder.message);
  Pixels pixels{.height = png_get_image_height(decoder.png, decoder.info),
                .width = png_get_image_width(decoder.png, decoder.info),
                .channels = png_get_color_type(decoder.png, decoder.info) & PNG_COLOR_MASK_COLOR ? 3 : 1,
                .values = {},
                .alpha = (png_get_color_type(decoder.png, decoder.info) & PNG_COLOR_MASK_ALPHA) != 0 ||
                         png_get_valid(decoder.png, decoder.info, PNG_INFO_tRNS) != 0};
  check_size(request, pixels.height, pixels.width);
  if (request.size_only) return pixels;

  int passes = 1;
  const bool set_up = completes(decoder, [&] {
    png_set_strip_16(decoder.png);
    png_set_palette_to_rgb(decoder.png);
    if (pixels.channels == 1) png_set_expand_gray_1_2_4_to_8(decoder.png);
    png_set_strip_alpha(decoder.png);  // dropped, never composited
    passes = png_set_interlace_handling(decoder.png);
    png_read_update_info(decoder.png, decoder.info);
  });
  if (!set_up) refuse(request, "PNG", decoder.message);
  const auto stride = static_cast<size_t>(pixels.width * pixels.channels);
  if (png_get_rowbytes(decoder.png, decoder.info) != stride) refuse(request, "PNG", "unknown kind of pixels");
  pixels.values.resize(stride * static_cast<size_t>(pixels.height));
  const bool decoded = completes(decoder, [&] {
    for (int pass = 0; pass < passes; ++pass) {
      for (int64_t y = 0; y < pixels.height; ++y) {
        png_read_row(decoder.png, pixels.values.data() + stride * static_cast<size_t>(y), nullptr);
      }
    }
    png_read_end(decoder.png, nullptr);
  });
  if (!decoded) refuse(request, "PNG", decoder.message);
  return pixels;
}

}  // namespace nextscale::formats
