// Pictures decoded, resized and cropped as the reference does (utils/data.py with Pillow), bit for bit from the same
// decoded pixels.
#include <cstdlib>
#include <fstream>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::fixture_file;

struct Preprocess {
  nlohmann::json index;
  NamedTensors expected;
  int64_t compared = 0;

  Preprocess() {
    index = testing::fixture_table("preprocess/index.json");
    expected = read_weights(fixture_file("preprocess/expected.safetensors")).tensors;
  }
  ~Preprocess() {
    EXPECT_GT(compared, 0);
    fmt::print("compared preprocess: {} tensors\n", compared);
  }
  at::Tensor tensor(const nlohmann::json& key) const {
    return key.is_string() ? find_tensor(expected, key.get<std::string>()) : at::Tensor();
  }
  // An entry that the set lacks is not compared.
  void check(const nlohmann::json& key, const at::Tensor& actual, double tolerance = 0) {
    const auto value = tensor(key);
    if (!value.defined()) return;
    EXPECT_TRUE(all_close(actual, value, {.absolute = tolerance})) << key;
    ++compared;
  }
};

TEST(ParityPreprocess, DecodingGivesTheReferencesPixels) {
  Preprocess set;
  for (const auto& picture : set.index.at("pictures")) {
    const auto file = picture.at("file").get<std::string>();
    SCOPED_TRACE(file);
    const auto path = fixture_file("preprocess/" + file);
    std::ifstream first(path, std::ios::binary);
    const bool lossless = first.get() == 0x89;  // PNG, whatever the name says
    // Another build of the JPEG library rounds differently by one or two.
    set.check(picture.at("decoded"), read_picture(path, 3), lossless ? 0 : 2);
  }
}

TEST(ParityPreprocess, ResizedPicturesAndCropsAreEqualBitForBit) {
  Preprocess set;
  for (const auto& picture : set.index.at("pictures")) {
    SCOPED_TRACE(picture.at("file").get<std::string>());
    const auto decoded = set.tensor(picture.at("decoded"));
    if (!decoded.defined()) continue;
    for (const auto& run : picture.at("runs")) {
      const auto side = run.at("side").get<int64_t>();
      SCOPED_TRACE(side);
      const auto length = mid_length(run.at("mid_reso").get<double>(), side);
      EXPECT_EQ(length, run.at("resize_short_to"));
      const auto resized = resize_shorter_side(decoded, length);
      EXPECT_EQ(resized.size(0), run.at("resized_h"));
      EXPECT_EQ(resized.size(1), run.at("resized_w"));
      set.check(run.at("resized"), resized);
      const auto center = center_offsets(resized.size(0), resized.size(1), side);
      EXPECT_EQ(center, (CropOffsets{run.at("center_top"), run.at("center_left")}));
      set.check(run.at("center"), crop(resized, center, side));
      for (const auto& one : run.at("crops")) {
        set.check(one.at("key"), crop(resized, {one.at("top"), one.at("left")}, side));
      }
      auto generator = make_generator(run.at("random_crop").at("global_seed").get<uint64_t>());
      const auto drawn = random_offsets(resized.size(0), resized.size(1), side, generator);
      EXPECT_EQ(drawn, (CropOffsets{run.at("random_crop").at("top_left")[0], run.at("random_crop").at("top_left")[1]}));
    }
    const auto flipped = resize_shorter_side(mirrored(decoded), mid_length(1.125, 32));
    set.check(picture.at("flipped_center"), crop(flipped, center_offsets(flipped.size(0), flipped.size(1), 32), 32));
  }
}

TEST(ParityPreprocess, TheNetworksInputIsRoundedAsInTheReference) {
  const auto index = testing::fixture_table("preprocess/index.json");
  const auto bytes = at::stack({at::scalar_tensor(0), at::scalar_tensor(1), at::scalar_tensor(127),
                                at::scalar_tensor(128), at::scalar_tensor(254), at::scalar_tensor(255)})
                         .to(at::kByte);
  const auto actual = to_network_range(bytes);
  const auto& expected = index.at("to_input_of_0_1_127_128_254_255");
  ASSERT_EQ(static_cast<int64_t>(expected.size()), actual.numel());
  for (int64_t i = 0; i < actual.numel(); ++i) {
    const auto text = expected[static_cast<size_t>(i)].get<std::string>();
    EXPECT_EQ(actual[i].item<float>(), std::strtof(text.c_str(), nullptr)) << text;
  }
}

}  // namespace
}  // namespace nextscale
