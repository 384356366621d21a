#include <csetjmp>
#include <cstdio>
// jpeglib.h needs size_t and FILE first
#include <jpeglib.h>
// and its message numbers come after it
#include <jerror.h>

#include "nextscale/data/picture_formats.h"

// libjpeg itself and not through OpenCV: OpenCV 4.6 hands out cut pictures, and libjpeg's warnings would reach stderr.
namespace nextscale::formats {
namespace {

struct JpegDecoder {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX] = "";
  bool created = false;

  JpegDecoder();
  ~JpegDecoder() {
    if (created) jpeg_destroy_decompress(&info);
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
};

[[noreturn]] void stop(j_common_ptr info) {
  auto* decoder = static_cast<JpegDecoder*>(info->client_data);
  info->err->format_message(info, decoder->message);
  std::longjmp(decoder->jump, 1);
}

// A negative level is a warning. Those after which libjpeg invents pixels end the picture; harmless ones (stray bytes
// between segments, an unknown Adobe code) do not, as in the reference.
void judge(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE:
      stop(info);
    default:
      ++info->err->num_warnings;
  }
}

JpegDecoder::JpegDecoder() {
  info.err = jpeg_std_error(&errors);
  info.client_data = this;
  errors.error_exit = stop;
  errors.emit_message = judge;
  errors.output_message = [](j_common_ptr) {};
}

// Runs libjpeg calls that may jump out; `calls` must own nothing that needs a destructor.
template <class Calls>
bool completes(JpegDecoder& decoder, const Calls& calls) {
  if (setjmp(decoder.jump)) return false;
  calls();
  return true;
}

int divide_by_255(int product) {
  const int t = product + 128;
  return ((t >> 8) + t) >> 8;
}

// Adobe stores CMYK inverted, and the reference takes every CMYK JPEG for Adobe's.
std::vector<uint8_t> rgb_from_inverted_cmyk(const std::vector<uint8_t>& cmyk) {
  std::vector<uint8_t> rgb(cmyk.size() / 4 * 3);
  for (size_t i = 0; i < cmyk.size() / 4; ++i) {
    const int key = cmyk[i * 4 + 3];
    for (size_t c = 0; c < 3; ++c) {
      rgb[i * 3 + c] = static_cast<uint8_t>(key - divide_by_255((255 - cmyk[i * 4 + c]) * key));
    }
  }
  return rgb;
}

}  // namespace

Pixels decode_jpeg(const Request& request) {
  JpegDecoder decoder;
  auto& info = decoder.info;
  const auto* data = reinterpret_cast<const unsigned char*>(request.bytes.data());
  const bool header_read = completes(decoder, [&] {
    jpeg_create_decompress(&info);
    decoder.created = true;
    info.client_data = &decoder;
    jpeg_mem_src(&info, data, request.bytes.size());
    jpeg_read_header(&info, TRUE);
  });
  if (!header_read) refuse(request, "JPEG", decoder.message);
  check_size(request, info.image_height, info.image_width);

  Pixels pixels{.height = info.image_height, .width = info.image_width, .channels = 3, .values = {}};
  if (request.size_only) return pixels;
  const bool four = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  const bool grey = info.num_components == 1;
  info.out_color_space = grey ? JCS_GRAYSCALE : four ? JCS_CMYK : JCS_RGB;
  pixels.channels = grey ? 1 : four ? 4 : 3;
  const auto stride = static_cast<size_t>(pixels.width * pixels.channels);
  pixels.values.resize(stride * static_cast<size_t>(pixels.height));
  const bool decoded = completes(decoder, [&] {
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = pixels.values.data() + stride * info.output_scanline;
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  });
  if (!decoded) refuse(request, "JPEG", decoder.message);
  if (four) {
    pixels.values = rgb_from_inverted_cmyk(pixels.values);
    pixels.channels = 3;
  }
  return pixels;
}

}  // namespace nextscale::formats
