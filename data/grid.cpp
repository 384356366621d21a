#include "nextscale/data/grid.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "nextscale/base/error.h"
#include "nextscale/data/picture.h"

namespace nextscale {
namespace {

constexpr int64_t kGap = 4;            // white pixels between pictures
constexpr int64_t kLookedAtSide = 64;  // smaller pictures are enlarged to at least this
constexpr int64_t kTextHeight = 18;    // of a line
constexpr int64_t kLabelLimit = 200;   // widest row label
constexpr double kTextScale = 0.42;
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;

int64_t text_width(const std::string& text) {
  int below = 0;
  return cv::getTextSize(text, kFont, kTextScale, 1, &below).width;
}

/// The font has ASCII only; any other character becomes one question mark.
std::string ascii_text(const std::string& text) {
  std::string ascii;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 && byte < 0xC0) continue;  // the rest of a UTF-8 character
    ascii += byte >= 0x20 && byte < 0x7F ? c : '?';
  }
  return ascii;
}

/// Cut to `width` pixels, ".." where something is missing.
std::string fitted(const std::string& text, int64_t width) {
  auto ascii = ascii_text(text);
  if (text_width(ascii) <= width) return ascii;
  while (!ascii.empty() && text_width(ascii + "..") > width) ascii.pop_back();
  return ascii.empty() ? "" : ascii + "..";
}

/// (N, H * zoom, W * zoom, 3) uint8
at::Tensor enlarged(const at::Tensor& pictures, int64_t zoom) {
  auto bytes = pictures.scalar_type() == at::kByte ? pictures.cpu().permute({0, 2, 3, 1})
                                                   : bytes_from_unit_range(pictures);  // (N, H, W, C)
  bytes = bytes.expand({-1, -1, -1, 3});
  return zoom == 1 ? bytes : bytes.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2);
}

struct Layout {
  int64_t rows, columns, cell_height, cell_width, line_below, left, top;

  int64_t x(int64_t column) const { return left + column * (cell_width + kGap); }
  int64_t y(int64_t row) const { return top + row * (cell_height + line_below + kGap); }
  int64_t height() const { return y(rows); }
  int64_t width() const { return x(columns); }
};

Layout make_layout(int64_t count, int64_t cell_height, int64_t cell_width, const GridOptions& options) {
  Layout layout{};
  layout.columns = options.columns > 0 ? options.columns : std::max<int64_t>(count, 1);
  layout.rows = (count + layout.columns - 1) / layout.columns;
  layout.cell_height = cell_height;
  layout.cell_width = cell_width;
  layout.line_below = options.captions.empty() ? 0 : kTextHeight;
  layout.left = kGap;
  for (const auto& label : options.row_labels) {
    layout.left = std::max(layout.left, text_width(fitted(label, kLabelLimit)) + 3 * kGap);
  }
  layout.top = options.column_labels.empty() ? kGap : kTextHeight;
  return layout;
}

class TextWriter {
 public:
  explicit TextWriter(const at::Tensor& canvas)  // (height, width, 3) uint8, contiguous; drawn into
      : picture_(static_cast<int>(canvas.size(0)), static_cast<int>(canvas.size(1)), CV_8UC3, canvas.data_ptr()) {}

  /// @param baseline y of the letters' foot
  void write(const std::string& text, int64_t x, int64_t baseline) {
    cv::putText(picture_, text, {static_cast<int>(x), static_cast<int>(baseline)}, kFont, kTextScale,
                cv::Scalar(0, 0, 0), 1, cv::LINE_AA);
  }
  void write_centred(const std::string& text, int64_t left, int64_t width, int64_t baseline) {
    const auto cut = fitted(text, width);
    write(cut, left + (width - text_width(cut)) / 2, baseline);
  }

 private:
  cv::Mat picture_;
};

void write_labels(const at::Tensor& canvas, const Layout& layout, const GridOptions& options, int64_t count) {
  TextWriter writer(canvas);
  const auto size = [](const std::vector<std::string>& texts) { return static_cast<int64_t>(texts.size()); };
  for (int64_t row = 0; row < std::min(size(options.row_labels), layout.rows); ++row) {
    const auto text = fitted(options.row_labels[static_cast<size_t>(row)], kLabelLimit);
    writer.write(text, kGap, layout.y(row) + layout.cell_height / 2 + kGap);
  }
  for (int64_t column = 0; column < std::min(size(options.column_labels), layout.columns); ++column) {
    const auto& text = options.column_labels[static_cast<size_t>(column)];
    writer.write_centred(text, layout.x(column), layout.cell_width, kTextHeight - kGap - 1);
  }
  for (int64_t i = 0; i < std::min(size(options.captions), count); ++i) {
    const auto below = layout.y(i / layout.columns) + layout.cell_height;
    const auto& text = options.captions[static_cast<size_t>(i)];
    writer.write_centred(text, layout.x(i % layout.columns), layout.cell_width, below + kTextHeight - kGap - 1);
  }
}

}  // namespace

at::Tensor compose_grid(const at::Tensor& pictures, const GridOptions& options) {
  if (pictures.dim() != 4 || (pictures.size(1) != 1 && pictures.size(1) != 3)) {
    throw failure({"picture grid", "wrong shape", "(N, 1 or 3, H, W)", shape_text(pictures.sizes())});
  }
  const int64_t count = pictures.size(0);
  const int64_t side = std::max<int64_t>(1, std::min(pictures.size(2), pictures.size(3)));
  const int64_t zoom = options.zoom > 0 ? options.zoom : std::max<int64_t>(1, (kLookedAtSide + side - 1) / side);
  const auto layout = make_layout(count, pictures.size(2) * zoom, pictures.size(3) * zoom, options);
  auto canvas = at::full({layout.height(), layout.width(), 3}, 255, at::kByte);
  const auto cells = enlarged(pictures, zoom);
  for (int64_t i = 0; i < count; ++i) {
    canvas.narrow(0, layout.y(i / layout.columns), layout.cell_height)
        .narrow(1, layout.x(i % layout.columns), layout.cell_width)
        .copy_(cells[i]);
  }
  write_labels(canvas, layout, options, count);
  return canvas;
}

}  // namespace nextscale
