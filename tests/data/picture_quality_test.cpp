#include "nextscale/data/picture_quality.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/bytes.h"
#include "nextscale/tests/support/message_of.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;

at::Tensor noise(int64_t count, int64_t height, int64_t width, int64_t channels, uint64_t seed) {
  auto generator = make_generator(seed);
  return at::randint(0, 256, {count, height, width, channels}, generator, at::kLong).to(at::kByte);
}

TEST(PictureQuality, PsnrIsPerPictureAndBounded) {
  const auto black = at::zeros({3, 4, 5, 3}, at::kByte);
  auto other = black.clone();
  other[1].fill_(255);
  other[2].fill_(1);
  const auto found = psnr(black, other, 255);
  EXPECT_EQ(found[0].item<double>(), 100);
  EXPECT_NEAR(found[1].item<double>(), 0, 1e-12);
  EXPECT_NEAR(found[2].item<double>(), 20 * std::log10(255), 1e-12);
  // The same pictures in the network's range.
  const auto in_range = psnr(to_network_range(black), to_network_range(other), 2);
  EXPECT_LT((in_range - found).abs().max().item<double>(), 1e-5);
}

TEST(PictureQuality, SsimIsOneOfEqualPicturesAndSymmetric) {
  const auto one = noise(2, 13, 17, 3, 1), other = noise(2, 13, 17, 3, 2);
  EXPECT_LT((ssim(one, one) - 1).abs().max().item<double>(), 1e-12);
  EXPECT_TRUE(at::equal(ssim(one, other), ssim(other, one)));
  EXPECT_LT(ssim(one, other).max().item<double>(), 0.2);
  // Of two flat pictures only the luminance term is left.
  const auto dark = at::full({1, 11, 11, 1}, 100, at::kByte), light = at::full({1, 11, 11, 1}, 120, at::kByte);
  const double c1 = 2.55 * 2.55;
  EXPECT_NEAR(ssim(dark, light).item<double>(), (2.0 * 100 * 120 + c1) / (100.0 * 100 + 120.0 * 120 + c1), 1e-9);
}

TEST(PictureQuality, WhatCannotBeComparedIsSaid) {
  EXPECT_THAT(message_of([] { ssim(noise(1, 10, 30, 3, 1), noise(1, 10, 30, 3, 2)); }),
              ::testing::AllOf(HasSubstr("SSIM"), HasSubstr("sides of 11 or more"), HasSubstr("(1, 10, 30, 3)")));
  EXPECT_THAT(message_of([] { ssim(noise(1, 12, 12, 3, 1), noise(1, 12, 12, 1, 2)); }), HasSubstr("different shapes"));
  EXPECT_THAT(message_of([] { psnr(noise(1, 3, 3, 3, 1), noise(2, 3, 3, 3, 2), 255); }), HasSubstr("different shapes"));
}

TEST(PictureQuality, JpegsAreReadBackNearly) {
  const auto smooth = at::arange(0, 160, 10, at::kLong).view({1, 16, 1}).expand({16, 16, 3}).to(at::kByte);
  for (const int64_t channels : {int64_t{1}, int64_t{3}}) {
    const auto picture = smooth.narrow(2, 0, channels).contiguous();
    const auto fine = decode_picture(as_bytes(encode_jpeg(picture, 90)), channels, "fine");
    const auto coarse = decode_picture(as_bytes(encode_jpeg(picture, 5)), channels, "coarse");
    ASSERT_EQ(fine.sizes(), picture.sizes());
    const auto quality = [&](const at::Tensor& read) {
      return psnr(picture.unsqueeze(0), read.unsqueeze(0), 255).item<double>();
    };
    EXPECT_GT(quality(fine), 35);
    EXPECT_LT(quality(coarse), quality(fine));
  }
}

}  // namespace
}  // namespace nextscale::testing
