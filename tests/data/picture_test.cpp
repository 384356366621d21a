#include "nextscale/data/picture.h"

#include <cstdlib>
#include <fstream>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <opencv2/imgcodecs.hpp>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/io/bytes.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;

// Smooth, so that lossy formats stay close, and different in all corners and channels.
at::Tensor test_picture(int64_t height, int64_t width) {
  const auto y = at::arange(height).view({-1, 1, 1}).mul(200).div(height);
  const auto x = at::arange(width).view({1, -1, 1}).mul(150).div(width);
  const auto c = at::arange(3).view({1, 1, 3}).mul(25);
  return (y + x * 0.25 + c).clamp(0, 255).to(at::kByte).contiguous();
}

// @param picture (H, W, C) uint8 or int16 (stored as 16 bits), colours as OpenCV orders them
std::string encoded(const at::Tensor& picture, const std::string& extension, const std::vector<int>& settings = {}) {
  const int type = CV_MAKETYPE(picture.scalar_type() == at::kByte ? CV_8U : CV_16U, static_cast<int>(picture.size(2)));
  const cv::Mat mat(static_cast<int>(picture.size(0)), static_cast<int>(picture.size(1)), type,
                    picture.contiguous().data_ptr());
  std::vector<uint8_t> file;
  cv::imencode(extension, mat, file, settings);
  return {file.begin(), file.end()};
}

at::Tensor decoded(const std::string& file, int64_t channels = 3) {
  return decode_picture(as_bytes(file), channels, "picture");
}

// What decoding complains of; empty if it does not.
std::string complaint(const std::string& file) {
  try {
    decoded(file);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::failure);
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  return "";
}

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

TEST(Picture, PngGivesBackEveryPixel) {
  const auto colour = test_picture(7, 5);
  EXPECT_TRUE(all_close(decoded(encode_png(colour)), colour));
  const auto grey = colour.select(2, 1).contiguous();
  EXPECT_TRUE(all_close(decoded(encode_png(grey), 1), grey.unsqueeze(2)));
  EXPECT_TRUE(all_close(decoded(encode_png(grey), 3), grey.unsqueeze(2).expand({7, 5, 3})));
}

TEST(Picture, EveryFormatIsRecognisedByItsContent) {
  const auto colour = test_picture(20, 30);
  const auto bgr = colour.flip(2).contiguous();
  for (const auto* extension : {".bmp", ".tif", ".ppm", ".png"}) {
    EXPECT_TRUE(all_close(decoded(encoded(bgr, extension)), colour)) << extension;
    EXPECT_EQ(picture_size(as_bytes(encoded(bgr, extension)), "x"), (PictureSize{20, 30})) << extension;
  }
  const auto webp = encoded(bgr, ".webp", {cv::IMWRITE_WEBP_QUALITY, 101});  // above 100: lossless
  EXPECT_TRUE(all_close(decoded(webp), colour));
  EXPECT_EQ(picture_size(as_bytes(webp), "x"), (PictureSize{20, 30}));
  EXPECT_TRUE(all_close(decoded(encoded(bgr, ".webp", {cv::IMWRITE_WEBP_QUALITY, 90})), colour, {.absolute = 12}));
  EXPECT_TRUE(all_close(decoded(encoded(bgr, ".jpg", {cv::IMWRITE_JPEG_QUALITY, 95})), colour, {.absolute = 12}));
  EXPECT_EQ(picture_size(as_bytes(encoded(bgr, ".jpg")), "x"), (PictureSize{20, 30}));
}

TEST(Picture, AnAnimatedWebpGivesItsFirstFrame) {
  const auto number = [](size_t value, size_t bytes) {
    std::string text;
    for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
    return text;
  };
  const auto colour = test_picture(6, 10);
  const auto still = encoded(colour.flip(2).contiguous(), ".webp", {cv::IMWRITE_WEBP_QUALITY, 101});
  const auto chunk = still.substr(12);  // behind RIFF, size and WEBP
  // Canvas 14 x 10, one frame of 10 x 6 at (4, 2): offsets are halved, sizes lessened by one.
  std::string body = "WEBPVP8X" + number(10, 4) + number(2, 4) + number(13, 3) + number(9, 3);
  body += "ANIM" + number(6, 4) + number(0, 6);
  body +=
      "ANMF" + number(16 + chunk.size(), 4) + number(2, 3) + number(1, 3) + number(9, 3) + number(5, 3) + number(0, 4);
  body += chunk;
  const auto picture = decoded("RIFF" + number(body.size(), 4) + body);
  auto expected = at::zeros({10, 14, 3}, at::kByte);
  expected.slice(0, 2, 8).slice(1, 4, 14).copy_(colour);
  EXPECT_TRUE(all_close(picture, expected));
}

TEST(Picture, GifGivesItsFirstFrame) {
  // 3 x 1 pixels of a 4-colour palette: codes clear, 1, 2, 3, end at 3 bits each (the fourth at 3 bits too).
  std::string gif = "GIF89a";
  gif += std::string("\x03\x00\x01\x00\x81\x00\x00", 7);
  gif += std::string("\x00\x00\x00\xff\x00\x00\x00\xff\x00\x00\x00\xff", 12);
  gif += std::string("\x2c\x00\x00\x00\x00\x03\x00\x01\x00\x00\x02\x02\x8c\x56\x00\x3b", 16);
  // 100 | 001 | 010 | 011 | 101 from the low bit up
  const uint32_t bits = 4u | 1u << 3 | 2u << 6 | 3u << 9 | 5u << 12;
  gif[gif.size() - 4] = static_cast<char>(bits & 0xff);
  gif[gif.size() - 3] = static_cast<char>(bits >> 8);
  const auto expected = at::tensor({255, 0, 0, 0, 255, 0, 0, 0, 255}).view({1, 3, 3});
  EXPECT_TRUE(all_close(decoded(gif), expected));
  for (size_t length = 6; length + 2 < gif.size(); ++length) EXPECT_NE(complaint(gif.substr(0, length)), "") << length;
}

TEST(Picture, GreyOfAColourPictureIsItsLuma) {
  const auto picture = at::tensor({255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30}).view({2, 2, 3}).to(at::kByte);
  EXPECT_TRUE(all_close(decoded(encode_png(picture), 1), at::tensor({76, 150, 29, 18}).view({2, 2, 1})));
}

TEST(Picture, AlphaIsDroppedAndNotComposited) {
  const auto colour = test_picture(6, 4);
  const auto transparent = at::cat({colour.flip(2), at::zeros({6, 4, 1}, at::kByte)}, 2).contiguous();
  EXPECT_TRUE(all_close(decoded(encoded(transparent, ".png")), colour));
}

TEST(Picture, SixteenBitChannelsKeepTheirHighByte) {
  const auto high = test_picture(6, 4).flip(2).to(at::kShort);
  const auto sixteen = (high.bitwise_left_shift(8) + 77).to(at::kShort);
  EXPECT_TRUE(all_close(decoded(encoded(sixteen, ".png")), high.flip(2)));
}

TEST(Picture, ExifNeverRotates) {
  auto file = encoded(test_picture(16, 40).flip(2).contiguous(), ".jpg");
  // Orientation 6 (rotate by 90 degrees) in a minimal Exif segment after the start marker.
  const std::string exif(
      "\xff\xe1\x00\x22"
      "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
      36);
  file.insert(2, exif);
  EXPECT_EQ(decoded(file).sizes(), at::IntArrayRef({16, 40, 3}));
}

TEST(Picture, CutJpegsAreRefused) {
  const auto file = encoded(test_picture(40, 60).flip(2).contiguous(), ".jpg");
  EXPECT_EQ(complaint(file), "");
  for (size_t length : {size_t{0}, size_t{2}, size_t{20}, file.size() / 2, file.size() * 9 / 10, file.size() - 2}) {
    EXPECT_NE(complaint(file.substr(0, length)), "") << length << " of " << file.size();
  }
  const auto progressive =
      encoded(test_picture(40, 60).flip(2).contiguous(), ".jpg", {cv::IMWRITE_JPEG_PROGRESSIVE, 1});
  EXPECT_EQ(complaint(progressive), "");
  EXPECT_NE(complaint(progressive.substr(0, progressive.size() / 2)), "");
}

RC_GTEST_PROP(Picture, NoCutPngIsAccepted, ()) {
  const auto file = encode_png(test_picture(9, 11));
  const auto length = *rc::gen::inRange<size_t>(0, file.size());
  RC_ASSERT(complaint(file.substr(0, length)) != "");
}

RC_GTEST_PROP(Picture, ChangedBytesEndInAPictureOrAnError, ()) {
  const auto picture = test_picture(24, 17).flip(2).contiguous();
  auto file = encoded(picture, *rc::gen::element<std::string>(".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm"));
  for (int i = *rc::gen::inRange(1, 6); i > 0; --i) {
    file[*rc::gen::inRange<size_t>(0, file.size())] = *rc::gen::arbitrary<char>();
  }
  complaint(file);
}

TEST(Picture, ClaimsOfHugeSizesAreRefusedBeforeAnythingIsDecoded) {
  auto png = encode_png(test_picture(4, 4));
  const auto header = std::string("IHDR") + big_endian(60000) + big_endian(60000) + std::string("\x08\x02\0\0\0", 5);
  png.replace(12, header.size(), header);
  EXPECT_NE(complaint(png), "");  // the checksum does not fit
  auto bmp = encoded(test_picture(4, 4), ".bmp");
  bmp.replace(18, 8, std::string("\x60\xea\0\0\x60\xea\0\0", 8));
  EXPECT_NE(complaint(bmp).find("picture is too large: expected at most 178956970 pixels, got 60000 x 60000"),
            std::string::npos)
      << complaint(bmp);
  EXPECT_NE(complaint("P6 20000 20000 255\n").find("too large"), std::string::npos);
}

int64_t most_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

// Small files that claim gigabytes, some of them with valid checksums.
TEST(Picture, BombsOfEveryFormatTakeNoMemory) {
  const auto folder = std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/picture";
  const auto before = most_memory();
  for (const char* name : {"jpeg", "png", "gif", "bmp", "ppm", "webp_canvas"}) {
    const auto file = testing::read_file(folder / ("hostile_" + std::string(name) + "_bomb"));
    EXPECT_NE(complaint(file).find("picture is too large: expected at most 178956970 pixels"), std::string::npos)
        << name << ": " << complaint(file);
    EXPECT_THROW(picture_size(as_bytes(file), name), Error);
  }
  EXPECT_LT(most_memory() - before, 50 << 20);
}

TEST(Picture, WhatIsNoPictureIsNamed) {
  EXPECT_EQ(complaint(""), "picture: empty file: expected JPEG, PNG, WebP, BMP, TIFF, PNM or GIF");
  EXPECT_EQ(complaint("<!DOCTYPE html>"), "picture: not a picture: expected JPEG, PNG, WebP, BMP, TIFF, PNM or GIF");
}

TEST(Picture, CodecsPrintNothing) {
  const auto bgr = test_picture(24, 17).flip(2).contiguous();
  ::testing::internal::CaptureStderr();
  for (const auto* extension : {".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm"}) {
    auto file = encoded(bgr, extension);
    EXPECT_NE(complaint(file.substr(0, file.size() / 2)), "") << extension;
    file[file.size() / 2] = static_cast<char>(file[file.size() / 2] ^ 0x55);
    complaint(file);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Picture, NetworkOutputIsRoundedToNearest) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto x = at::tensor({-1.5f, -1.0f, -1.0f + 1.9f / 255, 0.0f, 1.0f, 3.0f, nan}).view({1, 1, -1});
  EXPECT_TRUE(all_close(bytes_from_network_range(x).flatten(), at::tensor({0, 0, 1, 128, 255, 255, 0})));
  const auto unit = at::tensor({-0.1f, 0.0f, 0.4f / 255, 0.6f / 255, 1.0f, 1.2f, nan}).view({1, 1, -1});
  EXPECT_TRUE(all_close(bytes_from_unit_range(unit).flatten(), at::tensor({0, 0, 0, 1, 255, 255, 0})));
}

TEST(Picture, EveryByteSurvivesTheNetworksRange) {
  const auto bytes = at::arange(256).to(at::kByte).view({16, 16, 1});
  EXPECT_TRUE(all_close(bytes_from_network_range(to_network_range(bytes).permute({2, 0, 1})), bytes));
}

TEST(Picture, AWrittenPngReadsBack) {
  const testing::TemporaryDirectory folder;
  const auto picture = test_picture(12, 9);
  write_png(folder / "x.png", picture);
  EXPECT_TRUE(all_close(read_picture(folder / "x.png", 3), picture));
  EXPECT_THROW(write_png(folder / "no/such/folder/x.png", picture), Error);
}

// The test bench of odd pictures, where it is there: what must be decoded is, with the reference's means and corners;
// what must be refused is. Without it the pictures made in the tests above go through the same code.
TEST(Picture, OddPicturesAreDecodedOrRefusedAsTheirIndexSays) {
  const char* shared = std::getenv("NEXTSCALE_SHARED");
  if (!shared) GTEST_SKIP() << "NEXTSCALE_SHARED is not set: no folder with odd pictures";
  const auto folder = std::filesystem::path(shared) / "data/odd_images";
  const auto index = nlohmann::json::parse(std::ifstream(folder / "index.json"));
  int64_t decoded_count = 0, refused_count = 0, either_count = 0;
  const auto memory_before = most_memory();
  ::testing::internal::CaptureStderr();
  for (const auto& entry : index.at("entries")) {
    const auto file = entry.at("file").get<std::string>();
    SCOPED_TRACE(file);
    const auto must = entry.at("must").get<std::string>();
    at::Tensor picture;
    std::string error;
    try {
      picture = read_picture(folder / file, 3);
    } catch (const Error& e) {
      error = e.what();
    }
    EXPECT_EQ(error.find('\n'), std::string::npos);
    if (must == "refuse") {
      EXPECT_FALSE(picture.defined());
      EXPECT_NE(error.find(file), std::string::npos) << error;
      ++refused_count;
    }
    if (must == "either") {
      EXPECT_EQ(picture.defined(), error.empty());
      if (picture.defined() && entry.at("reference").contains("size")) {
        EXPECT_EQ(picture.size(1), entry.at("reference").at("size")[0]);
        EXPECT_EQ(picture.size(0), entry.at("reference").at("size")[1]);
      }
      ++either_count;
    }
    if (must != "decode") continue;
    ASSERT_TRUE(picture.defined()) << error;
    ++decoded_count;
    const auto& reference = entry.at("reference");
    EXPECT_EQ(picture.size(1), reference.at("size")[0]);
    EXPECT_EQ(picture.size(0), reference.at("size")[1]);
    const bool lossless = reference.at("lossless").get<bool>();
    const auto mean = picture.to(at::kDouble).mean(at::IntArrayRef({0, 1}));
    const auto height = std::min<int64_t>(8, picture.size(0)), width = std::min<int64_t>(8, picture.size(1));
    for (int64_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(mean[c].item<double>(), reference.at("mean_rgb")[static_cast<size_t>(c)], lossless ? 6e-4 : 1);
      for (size_t corner = 0; corner < 4; ++corner) {
        const auto rows = picture.slice(0, corner < 2 ? 0 : picture.size(0) - height).slice(0, 0, height);
        const auto patch = rows.slice(1, corner % 2 == 0 ? 0 : picture.size(1) - width).slice(1, 0, width);
        EXPECT_NEAR(patch.select(2, c).to(at::kDouble).mean().item<double>(),
                    reference.at("corners_rgb")[corner][static_cast<size_t>(c)], lossless ? 0.06 : 3);
      }
    }
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_LT(most_memory() - memory_before, 200 << 20);  // the bombs among them would take gigabytes
  EXPECT_EQ(decoded_count + refused_count + either_count, std::ssize(index.at("entries")));
  EXPECT_GT(decoded_count, 80);
  EXPECT_GT(refused_count, 20);
}

}  // namespace
}  // namespace nextscale
