#include "nextscale/evaluate/feature_set.h"

#include <functional>
#include <memory>
#include <random>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/evaluate/resizes.h"
#include "nextscale/evaluate/statistics_file.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/mutated.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr int64_t kHeight = 3, kWidth = 4;

/// Features are the pixels themselves.
class PixelNetwork : public FeatureNetwork {
 public:
  std::string name() const override { return "pixels"; }
  std::string distance() const override { return "FD-pixels"; }
  int64_t width() const override { return kHeight * kWidth * 3; }
  std::vector<int64_t> prepared_shape(int64_t height, int64_t width) const override { return {height, width, 3}; }
  void prepare(const at::Tensor& picture, float* out) const override {
    const auto whole = picture.contiguous();
    std::copy_n(whole.const_data_ptr<uint8_t>(), whole.numel(), out);
  }
  FeatureBatch run(const at::Tensor& prepared) override {
    ++batches;
    const auto rows = prepared.flatten(1);
    return {.features = rows, .spatial = {}, .logits = rows.slice(1, 0, 5), .predicted = rows.argmax(1)};
  }
  int batches = 0;
};

class FixedPictures : public Dataset {
 public:
  explicit FixedPictures(at::Tensor pictures) : pictures_(std::move(pictures)) {}
  int64_t size() const override { return pictures_.size(0); }
  int64_t label(int64_t i) const override { return i % 3; }
  at::Tensor picture(int64_t i) const override {
    if (i == damaged) throw failure({.where = name(i), .what = "damaged picture"});
    return i == odd ? pictures_[i].slice(0, 0, 2) : pictures_[i];
  }
  std::string name(int64_t i) const override { return "picture " + std::to_string(i); }
  int64_t damaged = -1, odd = -1;

 private:
  at::Tensor pictures_;
};

at::Tensor noise(int64_t count, uint64_t seed) {
  auto generator = make_generator(seed);
  return at::randint(0, 256, {count, kHeight, kWidth, 3}, generator, at::kLong).to(at::kByte);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

RC_GTEST_PROP(FeatureSet, IsTheSameHoweverPicturesComeIn, ()) {
  const auto count = *rc::gen::inRange<int64_t>(2, 60);
  const auto pictures = noise(count, 1);
  PixelNetwork network;
  const Wanted wanted{.rows = true, .spatial = false, .scores = true};
  const auto set = extract(FixedPictures(pictures), network, wanted,
                           {.batch = *rc::gen::inRange<int64_t>(1, 20), .workers = *rc::gen::inRange<int64_t>(0, 5)});
  const auto rows = pictures.flatten(1).to(at::kFloat);
  RC_ASSERT(at::equal(set->rows, rows));
  RC_ASSERT(at::equal(set->logits, rows.slice(1, 0, 5)));
  RC_ASSERT(set->labels.size() == static_cast<size_t>(count));
  RC_ASSERT(static_cast<bool>(all_close(set->features.mean(), rows.to(at::kDouble).mean(0), {.absolute = 1e-9})));
  RC_ASSERT(
      static_cast<bool>(all_close(set->features.covariance(), rows.to(at::kDouble).t().cov(), {.absolute = 1e-7})));

  FeatureCollector collector(network, wanted, count);
  const auto piece = *rc::gen::inRange<int64_t>(1, 20);
  for (int64_t begin = 0; begin < count; begin += piece) {
    const auto some = pictures.slice(0, begin, std::min(count, begin + piece));
    collector.add(some, std::vector<int64_t>(static_cast<size_t>(some.size(0)), 0));
  }
  const auto collected = collector.finish();
  RC_ASSERT(collected.hash == set->hash);
  RC_ASSERT(at::equal(collected.rows, rows));
}

TEST(FeatureSet, HashKnowsOrderAndPixels) {
  PixelNetwork network;
  const auto hash = [&](const at::Tensor& pictures) { return extract(FixedPictures(pictures), network, {}, {})->hash; };
  auto pictures = noise(5, 1);
  const auto before = hash(pictures);
  EXPECT_EQ(hash(pictures.clone()), before);
  EXPECT_NE(hash(pictures.flip(0)), before);
  pictures.mutable_data_ptr<uint8_t>()[100] ^= 1;
  EXPECT_NE(hash(pictures), before);
}

TEST(FeatureSet, NamesTheBadPictureWhateverTheThreads) {
  PixelNetwork network;
  for (const int64_t workers : {0, 1, 4}) {
    FixedPictures damaged(noise(50, 1)), odd(noise(50, 1));
    damaged.damaged = 37;
    odd.odd = 20;
    EXPECT_THAT(refusal([&] { extract(damaged, network, {}, {.batch = 8, .workers = workers}); }),
                HasSubstr("picture 37: damaged"));
    EXPECT_THAT(refusal([&] { extract(odd, network, {}, {.batch = 8, .workers = workers}); }),
                HasSubstr("picture 20: has another size than picture 0"));
  }
}

TEST(FeatureSet, StopsWhenAsked) {
  PixelNetwork network;
  const auto set = extract(FixedPictures(noise(50, 1)), network, {}, {.batch = 8, .workers = 2},
                           [](int64_t done) { return done < 16; });
  EXPECT_FALSE(set.has_value());
  EXPECT_EQ(network.batches, 2);
}

TEST(StatisticsFile, ComesBackAsItWas) {
  const TemporaryDirectory folder;
  FeatureStatistics features, spatial;
  features.add(at::rand({20, 6}, make_generator(1), at::kDouble));
  spatial.add(at::rand({20, 4}, make_generator(2), at::kDouble));
  write_statistics(folder / "both.npz", features, &spatial, R"({"protocol":"adm"})");
  NpzFile npz(folder / "both.npz");
  ASSERT_TRUE(holds_statistics(npz));
  const auto stored = read_statistics(npz, "both.npz");
  EXPECT_EQ(stored.count, 20);
  EXPECT_TRUE(at::equal(stored.features.mean(), features.mean()));
  EXPECT_TRUE(all_close(stored.features.covariance(), features.covariance(), {.absolute = 1e-16}));
  ASSERT_TRUE(stored.spatial.has_value());
  EXPECT_TRUE(at::equal(stored.spatial->mean(), spatial.mean()));
  EXPECT_NEAR(frechet_distance(stored.features, features).value, 0, 1e-12);
}

// Whatever stands in the file: statistics come out, or an error that names it.
TEST(StatisticsFile, DamagedFilesAreReadOrRefused) {
  const TemporaryDirectory folder;
  FeatureStatistics features;
  features.add(at::rand({20, 3}, make_generator(1), at::kDouble));
  write_statistics(folder / "whole.npz", features, nullptr, "{}");
  const auto whole = testing::read_file(folder / "whole.npz");
  std::mt19937_64 random(1);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    const auto bytes = testing::mutated(whole, random);
    const auto copy = std::make_shared<std::string>(bytes.begin(), bytes.end());
    const auto says = refusal([&] {
      NpzFile npz({copy, as_bytes(*copy)}, "broken.npz");
      if (holds_statistics(npz)) read_statistics(npz, "broken.npz");
    });
    refused += says.empty() ? 0 : 1;
    EXPECT_TRUE(says.empty() || says.find("broken.npz") != std::string::npos) << says;
  }
  EXPECT_GT(refused, 250);
}

// Another size is another matter, but a picture of the network's own size must come through untouched, and a flat one
// stays flat.
TEST(Resizes, OwnSizeAndFlatPicturesStayAsTheyAre) {
  auto generator = make_generator(3);
  const auto picture = at::randint(0, 256, {299, 299, 3}, generator, at::kLong).to(at::kByte);
  auto out = at::empty({299, 299, 3}, at::kFloat);
  resize_as_tensorflow(picture, 299, out.mutable_data_ptr<float>());
  EXPECT_TRUE(at::equal(out, picture.to(at::kFloat)));
  resize_as_pillow(picture, 299, out.mutable_data_ptr<float>());
  EXPECT_TRUE(at::equal(out, picture.to(at::kFloat)));
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 500}, {700, 3}, {64, 64}}) {
    const auto flat = at::full({height, width, 3}, 77, at::kByte);
    resize_as_tensorflow(flat, 299, out.mutable_data_ptr<float>());
    EXPECT_TRUE((out == 77).all().item<bool>()) << height << " x " << width;
    resize_as_pillow(flat, 299, out.mutable_data_ptr<float>());
    EXPECT_TRUE(all_close(out, at::full_like(out, 77), {.absolute = 2e-5})) << height << " x " << width;
  }
}

}  // namespace
}  // namespace nextscale
