#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <streambuf>
#include <utility>

#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>

#include "nextscale/data/picture_formats.h"
#include "nextscale/io/bytes.h"

// The file that decodes through OpenCV.
namespace nextscale::formats {
namespace {

// OpenCV 4.6 reports an unreadable picture on std::cerr besides returning an empty one. While a thread decodes, what
// that thread writes there is dropped; other threads are not touched.
thread_local bool decoding_here = false;

class ThreadFilter : public std::streambuf {
 public:
  explicit ThreadFilter(std::streambuf* out) : out_(out) {}

 protected:
  int overflow(int c) override { return decoding_here || c == EOF ? 0 : out_->sputc(static_cast<char>(c)); }
  std::streamsize xsputn(const char* text, std::streamsize n) override {
    return decoding_here ? n : out_->sputn(text, n);
  }
  int sync() override { return decoding_here ? 0 : out_->pubsync(); }

 private:
  std::streambuf* out_;
};

class QuietGuard {
 public:
  QuietGuard() {
    static std::once_flag once;
    std::call_once(once, [] {
      cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
      cv::setNumThreads(1);  // pictures are decoded by threads of our own
      // Never deleted: std::cerr is used until the very end of the process.
      std::cerr.rdbuf(new ThreadFilter(std::cerr.rdbuf()));
    });
    decoding_here = true;
  }
  ~QuietGuard() { decoding_here = false; }
  QuietGuard(const QuietGuard&) = delete;
  QuietGuard& operator=(const QuietGuard&) = delete;
};

// Little- or big-endian numbers at any place of a header; beyond its end they are refused.
struct Header {
  const Request& request;
  const char* format;
  bool big_endian = false;

  uint32_t number(size_t offset, int bytes) const {
    if (offset + static_cast<size_t>(bytes) > request.bytes.size()) refuse(request, format, "the file ends early");
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      const auto at = offset + static_cast<size_t>(big_endian ? i : bytes - 1 - i);
      value = value << 8 | static_cast<uint32_t>(request.bytes[at]);
    }
    return value;
  }
};

struct Size {
  int64_t height = 0, width = 0;
};

Size bmp_size(const Request& request) {
  const Header header{request, "BMP"};
  if (header.number(14, 4) == 12) return {header.number(20, 2), header.number(18, 2)};  // OS/2
  const auto height = static_cast<int32_t>(header.number(22, 4));                       // negative: top row first
  return {std::abs(int64_t{height}), static_cast<int32_t>(header.number(18, 4))};
}

/// As it is seen: OpenCV turns a TIFF picture as its orientation says whether it is asked to or not, and so does
/// Pillow.
Size tiff_size(const Request& request) {
  const Header header{request, "TIFF", request.bytes[0] == std::byte{'M'}};
  const size_t directory = header.number(4, 4);
  Size size;
  bool lies = false;
  for (size_t i = 0; i < header.number(directory, 2); ++i) {
    const size_t entry = directory + 2 + i * 12;
    const auto tag = header.number(entry, 2);
    const int64_t value = header.number(entry + 8, header.number(entry + 2, 2) == 3 ? 2 : 4);  // SHORT or LONG
    if (tag == 256) size.width = value;
    if (tag == 257) size.height = value;
    if (tag == 274) lies = value >= 5 && value <= 8;
  }
  if (lies) std::swap(size.width, size.height);
  return size;
}

Size pnm_size(const Request& request) {
  const auto text = as_text(request.bytes);
  int64_t numbers[2] = {0, 0};
  size_t at = 2;
  for (auto& number : numbers) {
    while (at < text.size() && (std::isspace(static_cast<unsigned char>(text[at])) || text[at] == '#')) {
      if (text[at] == '#') at = std::min(text.find('\n', at), text.size() - 1);
      ++at;
    }
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && number < (int64_t{1} << 32); ++at) {
      number = number * 10 + (text[at] - '0');
    }
  }
  return {numbers[1], numbers[0]};
}

// One picture of a WebP file: its place on the canvas and a WebP file of its own for the codec.
struct WebpFrame {
  Size canvas;
  int64_t left = 0, top = 0;
  bool alpha = false;
  std::string file;
};

std::string webp_file(std::string_view chunk) {
  const auto size_text = [](size_t n) {
    std::string s(4, '\0');
    for (size_t i = 0; i < 4; ++i) s[i] = static_cast<char>(n >> (8 * i) & 0xff);
    return s;
  };
  const std::string padding(chunk.size() % 2, '\0');
  return "RIFF" + size_text(chunk.size() + padding.size() + 4) + "WEBP" + std::string(chunk) + padding;
}

// The first picture. Its alpha channel is dropped with its chunk, so animations and still pictures are alike.
WebpFrame webp_frame(const Request& request) {
  const Header header{request, "WebP"};
  WebpFrame frame;
  const size_t end = std::min<size_t>(request.bytes.size(), size_t{header.number(4, 4)} + 8);
  for (size_t at = 12; at + 8 <= end;) {
    const auto name = as_text(request.bytes.subspan(at, 4));
    const size_t size = header.number(at + 4, 4), content = at + 8;
    if (name == "VP8X") {
      frame.alpha = (header.number(content, 1) & 0x10) != 0;
      frame.canvas = {header.number(content + 7, 3) + 1, header.number(content + 4, 3) + 1};
    } else if (name == "ANMF") {
      frame.left = int64_t{header.number(content, 3)} * 2;
      frame.top = int64_t{header.number(content + 3, 3)} * 2;
      at = content + 16;  // chunks of the frame
      continue;
    } else if (name == "VP8 " || name == "VP8L") {
      if (content + size > end) refuse(request, "WebP", "the file ends early");
      Size own;
      if (name == "VP8L") {
        const auto bits = header.number(content + 1, 4);
        frame.alpha = frame.alpha || (bits >> 28 & 1) != 0;
        own = {int64_t{bits >> 14 & 0x3fff} + 1, int64_t{bits & 0x3fff} + 1};
      } else {
        own = {header.number(content + 8, 2) & 0x3fff, header.number(content + 6, 2) & 0x3fff};
      }
      if (frame.canvas.width == 0) frame.canvas = own;
      if (frame.left + own.width > frame.canvas.width || frame.top + own.height > frame.canvas.height) {
        refuse(request, "WebP", "frame outside the picture");
      }
      frame.file = webp_file(as_text(request.bytes.subspan(at, size + 8)));
      return frame;
    }
    at = content + size + size % 2;
  }
  refuse(request, "WebP", "no picture inside");
}

cv::Mat decode_quietly(const Request& request, const char* format, std::string_view file) {
  cv::Mat decoded;
  std::string why = "damaged or cut off";
  {
    const QuietGuard quiet;
    const cv::Mat bytes(1, static_cast<int>(file.size()), CV_8U, const_cast<char*>(file.data()));  // only read
    try {
      decoded = cv::imdecode(bytes, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
    } catch (const cv::Exception& e) {
      why = e.err;
    }
  }
  if (decoded.empty() || decoded.type() != CV_8UC3) refuse(request, format, why);
  return decoded;
}

}  // namespace

Pixels decode_other(const Request& request) {
  const auto text = as_text(request.bytes);
  const bool webp = text[0] == 'R', bmp = text[0] == 'B', pnm = text[0] == 'P';
  const char* format = webp ? "WebP" : bmp ? "BMP" : pnm ? "PNM" : "TIFF";
  WebpFrame frame;
  if (webp) {
    frame = webp_frame(request);
  } else {
    frame.canvas = bmp ? bmp_size(request) : pnm ? pnm_size(request) : tiff_size(request);
  }
  check_size(request, frame.canvas.height, frame.canvas.width);
  Pixels pixels{
      .height = frame.canvas.height, .width = frame.canvas.width, .channels = 3, .values = {}, .alpha = frame.alpha};
  if (request.size_only) return pixels;

  const auto decoded = decode_quietly(request, format, webp ? std::string_view(frame.file) : text);
  if (frame.top + decoded.rows > pixels.height || frame.left + decoded.cols > pixels.width) {
    refuse(request, format, "size differs from the header's");
  }
  pixels.values.resize(static_cast<size_t>(pixels.height * pixels.width * 3));
  for (int y = 0; y < decoded.rows; ++y) {
    const auto* row = decoded.ptr<uint8_t>(y);
    auto* out = pixels.values.data() + ((frame.top + y) * pixels.width + frame.left) * 3;
    for (int x = 0; x < decoded.cols; ++x, row += 3, out += 3) {
      out[0] = row[2], out[1] = row[1], out[2] = row[0];  // OpenCV's order is blue, green, red
    }
  }
  return pixels;
}

namespace {

std::string encode(const char* ending, const std::vector<int>& settings, const uint8_t* values, int64_t height,
                   int64_t width, int64_t channels) {
  cv::Mat picture(static_cast<int>(height), static_cast<int>(width), channels == 1 ? CV_8UC1 : CV_8UC3);
  for (int y = 0; y < picture.rows; ++y) {
    auto* out = picture.ptr<uint8_t>(y);
    const auto* row = values + y * width * channels;
    for (int64_t i = 0; i < width * channels; ++i) out[i] = channels == 1 ? row[i] : row[i / 3 * 3 + 2 - i % 3];
  }
  std::vector<uint8_t> file;
  cv::imencode(ending, picture, file, settings);
  return {file.begin(), file.end()};
}

}  // namespace

std::string encode_png(const uint8_t* values, int64_t height, int64_t width, int64_t channels) {
  return encode(".png", {}, values, height, width, channels);
}

std::string encode_jpeg(const uint8_t* values, int64_t height, int64_t width, int64_t channels, int quality) {
  return encode(".jpg", {cv::IMWRITE_JPEG_QUALITY, quality}, values, height, width, channels);
}

}  // namespace nextscale::formats
