#include "nextscale/data/loader.h"

#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/picture.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;

// Pictures of noise from their index; one may be damaged.
class Noise : public Dataset {
 public:
  Noise(int64_t size, int64_t height, int64_t width, int64_t damaged = -1)
      : size_(size), height_(height), width_(width), damaged_(damaged) {}
  int64_t size() const override { return size_; }
  int64_t label(int64_t i) const override { return i % 7; }
  at::Tensor picture(int64_t i) const override {
    if (i == damaged_) throw failure({.where = name(i), .what = "damaged picture"});
    auto generator = make_generator(static_cast<uint64_t>(i));
    return at::randint(0, 256, {height_, width_, 3}, generator, at::TensorOptions(at::kByte));
  }
  std::string name(int64_t i) const override { return "noise/" + std::to_string(i); }

 private:
  int64_t size_, height_, width_, damaged_;
};

struct Setting {
  std::shared_ptr<const Dataset> dataset;
  DataParts parts;
  DataOptions options;

  Setting(int64_t size, int64_t height, int64_t width, int64_t side, int64_t damaged = -1)
      : dataset(std::make_shared<Noise>(size, height, width, damaged)) {
    parts.train = dataset;
    parts.side = side;
    parts.resize = height != side || width != side;
  }
  Loader loader(int64_t workers, int64_t batch, int64_t seed = 5) {
    options.workers = workers;
    return Loader(dataset, parts, options, batch, seed);
  }
};

bool same(const Batch& a, const Batch& b) {
  return a.pictures.equal(b.pictures) && a.labels.equal(b.labels) && a.indices.equal(b.indices);
}

TEST(Loader, TheNumberOfWorkersChangesNothing) {
  Setting setting(50, 20, 26, 12);
  setting.options.hflip = true;
  auto plain = setting.loader(0, 8);
  auto one = setting.loader(1, 8);
  auto four = setting.loader(4, 8);
  for (int64_t step = 0; step < 15; ++step) {
    const auto expected = plain.batch(step);
    EXPECT_TRUE(same(one.batch(step), expected)) << step;
    EXPECT_TRUE(same(four.batch(step), expected)) << step;
  }
}

TEST(Loader, AnyStepMayBeAskedForDirectly) {
  Setting setting(50, 20, 26, 12);
  auto in_order = setting.loader(2, 8);
  auto direct = setting.loader(2, 8);
  Batch last;
  for (int64_t step = 0; step <= 17; ++step) last = in_order.batch(step);
  EXPECT_TRUE(same(direct.batch(17), last));
  EXPECT_TRUE(same(direct.batch(3), in_order.batch(3)));
  EXPECT_TRUE(same(direct.batch(3), in_order.batch(3)));
}

TEST(Loader, AnEpochShowsEveryPictureAtMostOnceInANewOrder) {
  Setting setting(50, 12, 12, 12);
  auto loader = setting.loader(1, 8);
  ASSERT_EQ(loader.batches_per_epoch(), 6);
  std::vector<at::Tensor> epochs;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> seen;
    std::vector<at::Tensor> indices;
    for (int64_t b = 0; b < 6; ++b) {
      const auto batch = loader.batch(epoch * 6 + b);
      indices.push_back(batch.indices);
      for (int64_t i = 0; i < 8; ++i) {
        const auto index = batch.indices[i].item<int64_t>();
        seen.insert(index);
        EXPECT_EQ(batch.labels[i].item<int64_t>(), index % 7);
        EXPECT_TRUE(all_close(batch.pictures[i], to_network_range(setting.dataset->picture(index)).permute({2, 0, 1})));
      }
    }
    EXPECT_EQ(seen.size(), 48u);
    epochs.push_back(at::cat(indices));
  }
  EXPECT_FALSE(epochs[0].equal(epochs[1]));
  auto generator = make_generator(derived_seed(5, 0));
  EXPECT_TRUE(epochs[0].equal(at::randperm(50, generator, at::TensorOptions(at::kLong)).narrow(0, 0, 48)));
  EXPECT_FALSE(setting.loader(0, 8, 6).batch(0).indices.equal(setting.loader(0, 8, 5).batch(0).indices));
}

TEST(Loader, CropsOfAPictureDependOnSeedEpochAndIndexAlone) {
  Setting setting(24, 20, 26, 12);
  setting.options.hflip = true;
  // Other batches, the same epoch: picture by picture the same.
  auto small = setting.loader(0, 4);
  auto large = setting.loader(0, 12);
  std::vector<at::Tensor> by_index(24);
  for (int64_t step = 0; step < 6; ++step) {
    const auto batch = small.batch(step);
    for (int64_t i = 0; i < 4; ++i) by_index[static_cast<size_t>(batch.indices[i].item<int64_t>())] = batch.pictures[i];
  }
  int64_t changed = 0;
  for (int64_t step = 0; step < 4; ++step) {
    const auto batch = large.batch(step);
    for (int64_t i = 0; i < 12; ++i) {
      const auto& first = by_index[static_cast<size_t>(batch.indices[i].item<int64_t>())];
      if (step < 2) {
        EXPECT_TRUE(batch.pictures[i].equal(first));
      } else {
        changed += !batch.pictures[i].equal(first);  // the next epoch crops anew
      }
    }
  }
  EXPECT_GT(changed, 12);
}

TEST(Loader, HalfOfThePicturesAreMirroredWhereThatIsAsked) {
  Setting setting(64, 12, 12, 12);
  setting.options.hflip = true;
  const auto batch = setting.loader(2, 64).batch(0);
  int64_t mirrored_count = 0;
  for (int64_t i = 0; i < 64; ++i) {
    const auto plain = to_network_range(setting.dataset->picture(batch.indices[i].item<int64_t>())).permute({2, 0, 1});
    const bool is_mirrored = batch.pictures[i].equal(plain.flip(2));
    EXPECT_TRUE(is_mirrored || batch.pictures[i].equal(plain));
    mirrored_count += is_mirrored;
  }
  EXPECT_GT(mirrored_count, 16);
  EXPECT_LT(mirrored_count, 48);
}

TEST(Loader, ADamagedPictureEndsItsBatchWithItsName) {
  for (const int64_t workers : {0, 3}) {
    Setting setting(32, 12, 12, 12, 9);
    auto loader = setting.loader(workers, 8);
    int64_t failed = 0;
    for (int64_t step = 0; step < 4; ++step) {
      try {
        loader.batch(step);
      } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()), "noise/9: damaged picture");
        ++failed;
      }
    }
    EXPECT_EQ(failed, 1);
  }
}

TEST(Loader, APictureOfAnotherSizeIsNamed) {
  Setting setting(8, 12, 14, 12);
  setting.parts.resize = false;
  try {
    setting.loader(1, 8).batch(0);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("expected 12 x 12, got 14 x 12"), std::string::npos) << e.what();
  }
}

TEST(Loader, ABatchLargerThanTheDataIsAWrongOption) {
  Setting setting(8, 12, 12, 12);
  try {
    setting.loader(1, 9);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    EXPECT_EQ(std::string(e.what()), "--batch: does not fit the training pictures: expected 1 to 8, got 9");
  }
}

TEST(Loader, EndsWhileItsWorkersAreReading) {
  Setting setting(400, 64, 64, 32);
  auto loader = setting.loader(3, 100);
  loader.batch(0);
}

TEST(LoadInOrder, GivesCenterCropsInTheDataSetsOrder) {
  Setting setting(40, 20, 26, 12);
  setting.options.workers = 3;
  const auto batch = load_in_order(*setting.dataset, setting.parts, setting.options, 5, 33);
  ASSERT_EQ(batch.pictures.sizes(), at::IntArrayRef({33, 3, 12, 12}));
  EXPECT_TRUE(all_close(batch.indices, at::arange(5, 38)));
  for (int64_t i = 0; i < 33; ++i) {
    const auto resized = resize_shorter_side(setting.dataset->picture(5 + i), 14);  // round(1.125 * 12 = 13.5)
    const auto expected = crop(resized, center_offsets(resized.size(0), resized.size(1), 12), 12);
    EXPECT_TRUE(all_close(batch.pictures[i], to_network_range(expected).permute({2, 0, 1})));
    EXPECT_EQ(batch.labels[i].item<int64_t>(), (5 + i) % 7);
  }
  EXPECT_THROW(load_in_order(*std::make_shared<Noise>(9, 12, 12, 4), setting.parts, setting.options, 0, 9), Error);
}

TEST(LoadTrainingView, DependsOnItsSeedAndIsMirroredWhenAsked) {
  Setting setting(4, 20, 40, 12);
  const auto view = [&](uint64_t seed, bool mirror) {
    return load_training_view(*setting.dataset, setting.parts, setting.options, 2, seed, mirror);
  };
  EXPECT_EQ(view(1, false).sizes(), at::IntArrayRef({3, 12, 12}));
  EXPECT_TRUE(view(1, false).equal(view(1, false)));
  EXPECT_FALSE(view(1, false).equal(view(2, false)));
  EXPECT_FALSE(view(1, false).equal(view(1, true)));
  setting.parts.resize = false;
  setting.dataset = std::make_shared<Noise>(4, 12, 12);
  EXPECT_TRUE(view(1, true).equal(view(1, false).flip(2)));
}

RC_GTEST_PROP(Crops, RandomOffsetsStayInside, ()) {
  const auto side = *rc::gen::inRange<int64_t>(1, 40);
  const auto height = side + *rc::gen::inRange<int64_t>(0, 30), width = side + *rc::gen::inRange<int64_t>(0, 30);
  auto generator = make_generator(*rc::gen::arbitrary<uint64_t>());
  const auto offsets = random_offsets(height, width, side, generator);
  RC_ASSERT(offsets.top >= 0 && offsets.top + side <= height && offsets.left >= 0 && offsets.left + side <= width);
  const auto center = center_offsets(height, width, side);
  RC_ASSERT(center.top >= 0 && center.top + side <= height && center.left >= 0 && center.left + side <= width);
}

RC_GTEST_PROP(Crops, TheShorterSideIsAsAskedAndTheShapeIsKept, ()) {
  const auto height = *rc::gen::inRange<int64_t>(1, 60), width = *rc::gen::inRange<int64_t>(1, 60);
  const auto length = *rc::gen::inRange<int64_t>(1, 80);
  const auto resized = resize_shorter_side(Noise(1, height, width).picture(0), length);
  RC_ASSERT(std::min(resized.size(0), resized.size(1)) == length);
  const auto longer =
      static_cast<double>(length * std::max(height, width)) / static_cast<double>(std::min(height, width));
  RC_ASSERT(std::max(resized.size(0), resized.size(1)) == static_cast<int64_t>(longer));
}

RC_GTEST_PROP(Crops, OneColourStaysThatColour, ()) {
  const auto value = *rc::gen::inRange(0, 256);
  const auto channels = *rc::gen::element<int64_t>(1, 3);
  const auto picture =
      at::full({*rc::gen::inRange<int64_t>(1, 40), *rc::gen::inRange<int64_t>(1, 40), channels}, value, at::kByte);
  const auto resized = resize_lanczos(picture, *rc::gen::inRange<int64_t>(1, 60), *rc::gen::inRange<int64_t>(1, 60));
  RC_ASSERT(resized.eq(value).all().item<bool>());
}

RC_GTEST_PROP(Crops, ChannelsAreResizedEachByItself, ()) {
  const auto picture = Noise(1, *rc::gen::inRange<int64_t>(1, 30), *rc::gen::inRange<int64_t>(1, 30)).picture(0);
  const auto height = *rc::gen::inRange<int64_t>(1, 40), width = *rc::gen::inRange<int64_t>(1, 40);
  const auto colour = resize_lanczos(picture, height, width);
  for (int64_t c = 0; c < 3; ++c) {
    RC_ASSERT(resize_lanczos(picture.narrow(2, c, 1), height, width).equal(colour.narrow(2, c, 1)));
  }
}

TEST(Crops, TheSizeItselfChangesNothing) {
  const auto picture = Noise(1, 9, 13).picture(0);
  EXPECT_TRUE(resize_lanczos(picture, 9, 13).equal(picture));
  EXPECT_TRUE(mirrored(mirrored(picture)).equal(picture));
  EXPECT_FALSE(mirrored(picture).equal(picture));
}

TEST(Crops, HalvesRoundToEven) {
  EXPECT_EQ(mid_length(1.125, 256), 288);
  EXPECT_EQ(mid_length(1.125, 12), 14);
  EXPECT_EQ(mid_length(1.125, 28), 32);
  EXPECT_EQ(mid_length(1.125, 20), 22);
  EXPECT_EQ(center_offsets(15, 17, 12), (CropOffsets{2, 2}));
}

}  // namespace
}  // namespace nextscale
