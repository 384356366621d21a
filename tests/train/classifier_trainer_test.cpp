#include "nextscale/train/classifier_trainer.h"

#include <memory>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr int64_t kSide = 8;

/// Grey noise with a bright row (class 0) or a bright column (class 1) somewhere.
class StripesDataset : public Dataset {
 public:
  StripesDataset(int64_t size, uint64_t seed) : size_(size), seed_(seed) {}
  int64_t size() const override { return size_; }
  int64_t label(int64_t i) const override { return i % 2; }
  at::Tensor picture(int64_t i) const override {
    auto generator = make_generator(derived_seed(seed_, static_cast<uint64_t>(i)));
    auto picture = at::randint(0, 80, {kSide, kSide, 1}, generator, at::kLong).to(at::kByte);
    const int64_t where = at::randint(1, kSide - 1, {1}, generator, at::kLong).item<int64_t>();
    picture.select(label(i), where).fill_(255);
    return picture;
  }
  std::string name(int64_t i) const override { return "stripes[" + std::to_string(i) + "]"; }

 private:
  int64_t size_;
  uint64_t seed_;
};

DataParts stripes() {
  DataParts parts;
  parts.train = std::make_shared<StripesDataset>(64, 1);
  parts.val = std::make_shared<StripesDataset>(50, 2);
  parts.class_names = {"row", "column"};
  parts.side = kSide;
  parts.channels = 1;
  return parts;
}

DataOptions one_worker() {
  DataOptions options;
  options.workers = 1;
  return options;
}

constexpr int64_t kClassifierSteps = 40;

struct Training {
  Classifier classifier{nullptr};
  std::unique_ptr<ClassifierTrainer> trainer;

  explicit Training(uint64_t seed = 0, int64_t shift = 1) {
    at::manual_seed(7);
    classifier =
        Classifier(ClassifierOptions{.classes = 2, .channels = 1, .side = kSide, .widths = {6, 8}, .feature_width = 8});
    ClassifierTrainerSettings settings;
    settings.training.shift = shift;
    settings.schedule.lr = 1e-2;
    settings.schedule.schedule = "cos";
    settings.batch = 16;
    settings.steps = kClassifierSteps;
    settings.seed = seed;
    trainer = std::make_unique<ClassifierTrainer>(classifier, stripes(), one_worker(), settings);
  }
  void run(int64_t begin, int64_t end) {
    for (int64_t step = begin; step < end; ++step) trainer->step(step, step % 3 == 0);
  }
};

void expect_equal(const Classifier& actual, const Classifier& expected) {
  const auto weights = state_dict(*expected);
  for (const auto& [name, tensor] : state_dict(*actual))
    EXPECT_TRUE(all_close(tensor, find_tensor(weights, name))) << name;
}

TEST(ClassifierTrainer, LearnsToTellRowsFromColumns) {
  Training training;
  const double before = training.trainer->validate(0).at("loss");
  training.run(0, kClassifierSteps);
  const auto after = training.trainer->validate(kClassifierSteps);
  EXPECT_LT(after.at("loss"), before / 2);
  EXPECT_GT(after.at("accuracy"), 0.95);
}

TEST(ClassifierTrainer, GoesOnFromACheckpointToTheSameWeightsBitForBit) {
  const TemporaryDirectory folder;
  Training whole, first, second, other(1);
  whole.run(0, 12);
  first.run(0, 7);
  first.trainer->validate(7);
  CheckpointWriter checkpoint(folder.path(), 7);
  first.trainer->save(checkpoint);
  checkpoint.commit();
  second.trainer->load(newest_checkpoint(folder.path())->path);
  second.run(7, 12);
  expect_equal(second.classifier, whole.classifier);
  // The comparison can fail: another seed ends elsewhere.
  other.run(0, 12);
  EXPECT_FALSE(all_close(other.classifier->named_parameters()["head.weight"],
                         whole.classifier->named_parameters()["head.weight"]));
}

TEST(ClassifierTrainer, ValidationChangesNothing) {
  Training looked_at, left_alone;
  for (int64_t step = 0; step < 4; ++step) {
    looked_at.trainer->step(step, false);
    looked_at.trainer->validate(step);
    left_alone.trainer->step(step, true);
  }
  expect_equal(looked_at.classifier, left_alone.classifier);
}

TEST(ClassifierTrainer, TheSnapshotIsAClassifierFile) {
  const TemporaryDirectory folder;
  Training training;
  training.run(0, 3);
  training.trainer->save_snapshot(folder / "snapshot.safetensors");
  const auto again = load_classifier(folder / "snapshot.safetensors");
  expect_equal(again, training.classifier);
  EXPECT_EQ(load_class_names(folder / "snapshot.safetensors"), stripes().class_names);
}

TEST(ClassifierTrainer, RefusesDataItWasNotMadeFor) {
  const auto refused = [](DataParts parts) -> std::string {
    try {
      ClassifierTrainer(Classifier(ClassifierOptions{.classes = 2, .channels = 1, .side = kSide}), std::move(parts),
                        one_worker(), {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  auto parts = stripes();
  parts.class_names = {};
  EXPECT_THAT(refused(parts), HasSubstr("without classes"));
  parts.class_names = {"a", "b", "c"};
  EXPECT_THAT(refused(parts), HasSubstr("number of classes"));
  parts = stripes();
  parts.side = 16;
  EXPECT_THAT(refused(parts), HasSubstr("side"));
  parts = stripes();
  parts.val = std::make_shared<StripesDataset>(0, 1);
  EXPECT_THAT(refused(parts), HasSubstr("held-out"));
}

TEST(Shifted, MovesEveryPictureByItsOwnDrawAndRepeatsTheEdge) {
  auto generator = make_generator(5);
  const auto pictures = at::arange(20 * 2 * 5 * 6, at::kFloat).view({20, 2, 5, 6});
  const auto moved = shifted(pictures, 2, generator);
  std::map<std::pair<int64_t, int64_t>, int> seen;
  for (int64_t i = 0; i < 20; ++i) {
    for (int64_t down = -2; down <= 2; ++down) {
      for (int64_t right = -2; right <= 2; ++right) {
        const auto rows = (at::arange(5) + down).clamp(0, 4), columns = (at::arange(6) + right).clamp(0, 5);
        const auto expected = pictures[i].index_select(1, rows).index_select(2, columns);
        seen[{down, right}] += all_close(moved[i], expected) ? 1 : 0;
      }
    }
  }
  int found = 0, different = 0;
  for (const auto& [offset, count] : seen) {
    found += count;
    different += count > 0 ? 1 : 0;
  }
  EXPECT_EQ(found, 20);
  EXPECT_GT(different, 8);
  EXPECT_TRUE(all_close(shifted(pictures, 0, generator), pictures));
}

}  // namespace
}  // namespace nextscale
