// PSNR and SSIM of 8-bit pictures against their float64 values (fixtures perceptual/metrics).
#include "nextscale/data/picture_quality.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/tests/support/perceptual.h"

namespace nextscale {
namespace {

struct Pair {
  at::Tensor a, b;  // (1, H, W, 3) uint8
};

/// The pictures that the case describes: noise smoothed by its neighbours, and the same with more noise.
Pair pair_of(const testing::PerceptualFixture& fixture, const std::string& name, int64_t amplitude) {
  const auto r = fixture.input("metrics/" + name + "/a");  // (H, W, 3) int64
  const auto sum = r + r.roll(1, 0) + r.roll(1, 1) + r.roll({1, 1}, {0, 1});
  const auto a = at::floor_divide(sum, 4);
  const auto b = (a + fixture.input("metrics/" + name + "/noise") - amplitude).clamp(0, 255);
  return {a.to(at::kByte).unsqueeze(0), b.to(at::kByte).unsqueeze(0)};
}

TEST(ParityPictureQuality, PsnrAndSsimAreThePublishedOnes) {
  const testing::PerceptualFixture fixture("metrics");
  int64_t compared = 0;
  for (const std::string name : {"64", "nonsquare"}) {
    SCOPED_TRACE(name);
    const auto& expected = fixture.cases().at("metrics/" + name);
    const auto [a, b] = pair_of(fixture, name, expected.at("amp").get<int64_t>());
    EXPECT_NEAR(psnr(a, b, 255).item<double>(), expected.at("psnr_db").get<double>(), 1e-9);
    const auto map = ssim_map(a, b)[0];  // (3, H - 10, W - 10)
    const auto per_channel = expected.at("ssim_per_channel").get<std::vector<double>>();
    for (int64_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(map[c].mean().item<double>(), per_channel[static_cast<size_t>(c)], 1e-9) << "channel " << c;
    }
    EXPECT_LE(testing::relative_to_largest(map[0], fixture.expected(name + "/ssim_map_channel0")), 1e-6);
    EXPECT_NEAR(ssim(a, b).item<double>(), expected.at("ssim_mean").get<double>(), 1e-9);
    EXPECT_NEAR(ssim_of_luma(a, b).item<double>(), expected.at("ssim_luma").get<double>(), 1e-9);
    compared += 7;
  }
  EXPECT_EQ(compared, 14);
}

}  // namespace
}  // namespace nextscale
