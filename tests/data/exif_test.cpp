#include "nextscale/data/exif.h"

#include <cstdlib>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <opencv2/imgcodecs.hpp>
#include <rapidcheck/gtest.h>
#include <zlib.h>

#include "nextscale/data/picture.h"
#include "nextscale/io/bytes.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;

std::string number(uint64_t value, int count, bool big_endian) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>(value >> 8 * (big_endian ? count - 1 - i : i) & 0xFF);
  return text;
}

/// A TIFF structure with another entry before the orientation.
std::string tiff(uint64_t orientation, bool big_endian = true, uint64_t type = 3) {
  const auto n = [&](uint64_t value, int count) { return number(value, count, big_endian); };
  std::string text = (big_endian ? "MM" : "II") + n(42, 2) + n(8, 4) + n(2, 2);
  text += n(0x010F, 2) + n(2, 2) + n(4, 4) + "abc" + std::string(1, '\0');
  text += n(0x0112, 2) + n(type, 2) + n(1, 4) + (type == 3 ? n(orientation, 2) + n(0, 2) : n(orientation, 4));
  return text + n(0, 4);
}

std::string with_exif_jpeg(std::string file, const std::string& structure) {
  const auto content = std::string("Exif\0\0", 6) + structure;
  return file.insert(2, "\xFF\xE1" + number(content.size() + 2, 2, true) + content);
}

std::string with_exif_png(std::string file, const std::string& structure) {
  const auto content = "eXIf" + structure;
  const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size()));
  return file.insert(33, number(structure.size(), 4, true) + content + number(crc, 4, true));  // behind IHDR
}

std::string webp_with_exif(const std::string& structure) {
  const auto chunk = [](const std::string& name, const std::string& content) {
    return name + number(content.size(), 4, false) + content + std::string(content.size() % 2, '\0');
  };
  const auto body = "WEBP" + chunk("VP8X", std::string(10, '\0')) + chunk("EXIF", structure);
  return "RIFF" + number(body.size(), 4, false) + body;
}

int orientation_of(const std::string& file) { return exif_orientation(as_bytes(file)); }

/// Different in all corners, and smooth, as JPEG keeps it nearly.
at::Tensor gradient() {
  const auto y = at::arange(24).view({-1, 1, 1}).mul(7), x = at::arange(40).view({1, -1, 1}).mul(2);
  return (y + x + at::arange(3).view({1, 1, 3}).mul(3)).to(at::kByte).contiguous();
}

std::string encoded_colour(const at::Tensor& picture, const std::string& extension) {
  const auto bgr = picture.flip(2).contiguous();
  const cv::Mat mat(static_cast<int>(bgr.size(0)), static_cast<int>(bgr.size(1)), CV_8UC3, bgr.data_ptr());
  std::vector<uint8_t> file;
  cv::imencode(extension, mat, file);
  return {file.begin(), file.end()};
}

TEST(Exif, OrientationIsReadFromJpegPngAndWebpInBothByteOrders) {
  const auto jpeg = encoded_colour(gradient(), ".jpg"), png = encoded_colour(gradient(), ".png");
  EXPECT_EQ(orientation_of(jpeg), 1);
  EXPECT_EQ(orientation_of(png), 1);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool big_endian : {false, true}) {
      const auto structure = tiff(static_cast<uint64_t>(orientation), big_endian);
      EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, structure)), orientation);
      EXPECT_EQ(orientation_of(with_exif_png(png, structure)), orientation);
      EXPECT_EQ(orientation_of(webp_with_exif(structure)), orientation);
      EXPECT_EQ(orientation_of(webp_with_exif(std::string("Exif\0\0", 6) + structure)), orientation);
    }
  }
  EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, tiff(6, true, 4))), 6);  // LONG instead of SHORT
}

TEST(Exif, WhatIsDamagedOrInvalidIsAsStored) {
  const auto jpeg = encoded_colour(gradient(), ".jpg");
  for (const uint64_t orientation : {0, 9, 255, 65535}) {
    EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, tiff(orientation))), 1);
  }
  EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, tiff(6, true, 2))), 1);  // a text
  auto far = tiff(6);
  far.replace(4, 4, "\x7F\xFF\xFF\xFF");
  EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, far)), 1);
  auto many = tiff(1);
  many.replace(8, 2, "\xFF\xFF");
  EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, many)), 1);
  auto wrong = tiff(6);
  wrong[3] = 43;
  EXPECT_EQ(orientation_of(with_exif_jpeg(jpeg, wrong)), 1);
  EXPECT_EQ(orientation_of(""), 1);
  EXPECT_EQ(orientation_of("\xFF\xD8\xFF"), 1);
  EXPECT_EQ(orientation_of("<html>"), 1);
}

RC_GTEST_PROP(Exif, ChangedAndCutBytesEndInAnOrientation, ()) {
  const auto structure = tiff(6, *rc::gen::arbitrary<bool>());
  auto file =
      *rc::gen::element(with_exif_jpeg(encoded_colour(gradient(), ".jpg"), structure),
                        with_exif_png(encoded_colour(gradient(), ".png"), structure), webp_with_exif(structure));
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    file[*rc::gen::inRange<size_t>(0, std::min<size_t>(file.size(), 120))] = *rc::gen::arbitrary<char>();
  }
  // exactly so long on the heap, so that a sanitizer sees a read beyond it
  const std::vector<char> exact(file.begin(), file.begin() + *rc::gen::inRange<int64_t>(0, std::ssize(file) + 1));
  const int orientation = exif_orientation(as_bytes({exact.data(), exact.size()}));
  RC_ASSERT(orientation >= 1 && orientation <= 8);
}

TEST(Exif, EachOrientationIsSeenUpright) {
  const auto stored = at::arange(6).view({2, 3, 1}).to(at::kByte);  // 0 1 2 / 3 4 5
  const std::pair<std::vector<int64_t>, std::vector<int64_t>> seen[8] = {
      {{2, 3}, {0, 1, 2, 3, 4, 5}}, {{2, 3}, {2, 1, 0, 5, 4, 3}}, {{2, 3}, {5, 4, 3, 2, 1, 0}},
      {{2, 3}, {3, 4, 5, 0, 1, 2}}, {{3, 2}, {0, 3, 1, 4, 2, 5}}, {{3, 2}, {3, 0, 4, 1, 5, 2}},
      {{3, 2}, {5, 2, 4, 1, 3, 0}}, {{3, 2}, {2, 5, 1, 4, 0, 3}}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const auto& [shape, values] = seen[orientation - 1];
    const auto picture = upright(stored, orientation);
    EXPECT_TRUE(picture.is_contiguous());
    EXPECT_TRUE(all_close(picture, at::tensor(values).view({shape[0], shape[1], 1}))) << orientation;
  }
}

/// An uncompressed picture (H, W, 3).
std::string tiff_picture(const at::Tensor& picture, uint64_t orientation, bool big_endian) {
  const auto n = [&](uint64_t value, int count) { return number(value, count, big_endian); };
  const uint64_t height = static_cast<uint64_t>(picture.size(0)), width = static_cast<uint64_t>(picture.size(1));
  constexpr uint64_t kEntries = 10, kBits = 8 + 2 + 12 * kEntries + 4, kValues = kBits + 6;
  std::string text = (big_endian ? "MM" : "II") + n(42, 2) + n(8, 4) + n(kEntries, 2);
  const auto of_shorts = [&](uint64_t tag, uint64_t value) {
    text += n(tag, 2) + n(3, 2) + n(1, 4) + n(value, 2) + n(0, 2);
  };
  const auto of_longs = [&](uint64_t tag, uint64_t value) { text += n(tag, 2) + n(4, 2) + n(1, 4) + n(value, 4); };
  of_longs(256, width);
  of_longs(257, height);
  text += n(258, 2) + n(3, 2) + n(3, 4) + n(kBits, 4);  // bits of each channel
  of_shorts(259, 1);                                    // not compressed
  of_shorts(262, 2);                                    // RGB
  of_longs(273, kValues);
  of_shorts(274, orientation);
  of_shorts(277, 3);
  of_longs(278, height);
  of_longs(279, height * width * 3);
  text += n(0, 4) + n(8, 2) + n(8, 2) + n(8, 2);
  return text.append(static_cast<const char*>(picture.contiguous().const_data_ptr()), height * width * 3);
}

TEST(Exif, TiffPicturesAreSeenUprightAskedForOrNot) {
  const auto stored = gradient();
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const auto seen = upright(stored, orientation);
    for (const bool big_endian : {false, true}) {
      const auto file = tiff_picture(stored, static_cast<uint64_t>(orientation), big_endian);
      for (const auto exif : {Exif::ignored, Exif::applied}) {
        EXPECT_TRUE(all_close(decode_picture(as_bytes(file), 3, "x", exif), seen)) << orientation;
        EXPECT_EQ(picture_size(as_bytes(file), "x", exif), (PictureSize{seen.size(0), seen.size(1)})) << orientation;
      }
    }
  }
}

TEST(Exif, IsAppliedOnlyWhereAskedForAndSizesFollow) {
  const auto picture = gradient();
  for (const auto* extension : {".jpg", ".png"}) {
    const auto plain = encoded_colour(picture, extension);
    const auto stored = decode_picture(as_bytes(plain), 3, "x");
    const auto file = extension == std::string(".jpg") ? with_exif_jpeg(plain, tiff(6)) : with_exif_png(plain, tiff(6));
    EXPECT_TRUE(all_close(decode_picture(as_bytes(file), 3, "x"), stored));
    EXPECT_TRUE(all_close(decode_picture(as_bytes(file), 3, "x", Exif::applied), upright(stored, 6)));
    EXPECT_EQ(decode_picture(as_bytes(file), 1, "x", Exif::applied).sizes(), at::IntArrayRef({40, 24, 1}));
    EXPECT_EQ(picture_size(as_bytes(file), "x"), (PictureSize{24, 40}));
    EXPECT_EQ(picture_size(as_bytes(file), "x", Exif::applied), (PictureSize{40, 24}));
  }
}

// The test bench of odd pictures, where it is there: stored in eight ways, seen as one. Without it the pictures made in
// the tests above, in all eight orientations, go through the same code.
TEST(Exif, EightStoredPicturesAreSeenAsOne) {
  const char* shared = std::getenv("NEXTSCALE_SHARED");
  if (!shared) GTEST_SKIP() << "NEXTSCALE_SHARED is not set: no folder with odd pictures";
  const auto folder = std::filesystem::path(shared) / "data/odd_images/files";
  const auto seen = [&](const std::string& name) {
    const auto file = testing::read_file(folder / name);
    return decode_picture(as_bytes(file), 3, name, Exif::applied);
  };
  const auto first = seen("exif_orientation_1.jpg");
  for (int i = 2; i <= 8; ++i) {
    const auto other = seen("exif_orientation_" + std::to_string(i) + ".jpg");
    ASSERT_EQ(other.sizes(), first.sizes()) << i;
    // JPEG's blocks lie elsewhere in a turned picture
    EXPECT_LT((other.to(at::kDouble) - first.to(at::kDouble)).abs().mean().item<double>(), 3) << i;
  }
  EXPECT_EQ(seen("png_exif_orientation_6.png").sizes(), first.sizes());
  EXPECT_LT((seen("png_exif_orientation_6.png").to(at::kDouble) - first.to(at::kDouble)).abs().mean().item<double>(),
            6);
  EXPECT_EQ(seen("exif_garbage.jpg").sizes(), first.sizes());
  EXPECT_EQ(seen("exif_orientation_0_invalid.jpg").sizes(), first.sizes());
}

}  // namespace
}  // namespace nextscale
