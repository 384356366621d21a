#include "nextscale/data/crops.h"

#include <numeric>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/tests/support/recipe.h"

namespace nextscale {
namespace {

using testing::recipe_hash;
using testing::recipe_integers;

at::Tensor noise(int64_t height, int64_t width) {
  return recipe_integers("resample", {height, width, 3}, 256).to(at::kByte);
}

uint64_t hash_of(const at::Tensor& picture) {
  const auto bytes = picture.contiguous();
  return recipe_hash({reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()), bytes.nbytes()});
}

TEST(Resample, BicubicIsPillowsBitForBit) {
  struct Case {
    int64_t height, width;
    uint64_t hash;
    int first, last;
  };
  // Pillow 11.3.0 and 13.0.0, resize((width, height), Image.BICUBIC) of the 23 x 17 picture: FNV-1a of the result and
  // two values.
  const std::vector<Case> cases = {
      {23, 17, 0xA8FF056EA3AA8916, 93, 10}, {11, 8, 0x690D006F256C7A92, 108, 101},
      {20, 15, 0x697E39DCEAEA1049, 98, 44}, {5, 17, 0xCC2075FA09B70FC8, 133, 100},
      {23, 4, 0xF1E34E4702E661A4, 144, 67}, {40, 31, 0xC978F68A7204790C, 84, 0},
      {1, 1, 0xADCF3B1975A4571D, 126, 129}, {64, 3, 0x9999ED50DFA76D21, 133, 84},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(::testing::Message() << one.height << " x " << one.width);
    const auto resized = resize_bicubic(noise(23, 17), one.height, one.width);
    ASSERT_EQ(resized.sizes(), at::IntArrayRef({one.height, one.width, 3}));
    EXPECT_EQ(resized[0][0][0].item<int>(), one.first);
    EXPECT_EQ(resized[-1][-1][-1].item<int>(), one.last);
    EXPECT_EQ(hash_of(resized), one.hash);
  }
}

TEST(Resample, TheMiddleSquareIsPillowsBitForBit) {
  // Pillow 11.3.0 and 13.0.0: BICUBIC to 256 x 380, cropped at (16, 78).
  const auto square = center_square(noise(301, 447), 256, 224, Filter::bicubic);
  EXPECT_EQ(square.sizes(), at::IntArrayRef({224, 224, 3}));
  EXPECT_TRUE(square[0][0].equal(at::tensor({180, 43, 127}, at::kByte)));
  EXPECT_EQ(hash_of(square), 0x2CAF2B98CA480FB3);
  EXPECT_THROW(center_square(noise(30, 40), 20, 21, Filter::lanczos), c10::Error);
}

TEST(Resample, BicubicWeightsOfTwiceTheSizeAreThoseOfTheFormula) {
  const auto weights = resample_weights(8, 16, Filter::bicubic);
  EXPECT_EQ(weights.first[6], 1);
  EXPECT_EQ(weights.weight[6], (std::vector<double>{-0.0234375, 0.2265625, 0.8671875, -0.0703125}));
  EXPECT_EQ(weights.weight[7], (std::vector<double>{-0.0703125, 0.8671875, 0.2265625, -0.0234375}));
}

RC_GTEST_PROP(Resample, WeightsSumToOneInsideTheInput, ()) {
  const auto input = *rc::gen::inRange<int64_t>(1, 200), output = *rc::gen::inRange<int64_t>(1, 200);
  const auto filter = *rc::gen::element(Filter::lanczos, Filter::bicubic);
  const auto weights = resample_weights(input, output, filter);
  RC_ASSERT(static_cast<int64_t>(weights.first.size()) == output);
  RC_ASSERT(weights.weight.size() == weights.first.size());
  for (size_t i = 0; i < weights.first.size(); ++i) {
    const auto& row = weights.weight[i];
    RC_ASSERT(weights.first[i] >= 0 && weights.first[i] + static_cast<int64_t>(row.size()) <= input);
    RC_ASSERT(std::abs(std::accumulate(row.begin(), row.end(), 0.0) - 1.0) < 1e-12);
  }
}

}  // namespace
}  // namespace nextscale
