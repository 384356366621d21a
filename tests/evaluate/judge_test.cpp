#include <functional>
#include <memory>
#include <set>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/evaluate/features.h"
#include "nextscale/evaluate/quality.h"
#include "nextscale/evaluate/samples.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;
using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;
using testing::write_file;

constexpr int64_t kSide = 8;

/// Grey noise; picture i has class i % 3.
class NoiseDataset : public Dataset {
 public:
  NoiseDataset(int64_t size, uint64_t seed) {
    auto generator = make_generator(seed);
    pictures_ = at::randint(0, 256, {size, kSide, kSide, 1}, generator, at::kLong).to(at::kByte);
  }
  int64_t size() const override { return pictures_.size(0); }
  int64_t label(int64_t i) const override { return i % 3; }
  at::Tensor picture(int64_t i) const override { return pictures_[i]; }
  std::string name(int64_t i) const override { return "noise[" + std::to_string(i) + "]"; }

 private:
  at::Tensor pictures_;
};

DataParts noise_parts() {
  DataParts parts;
  parts.train = std::make_shared<NoiseDataset>(60, 1);
  parts.val = std::make_shared<NoiseDataset>(30, 2);
  parts.class_names = {"a", "b", "c"};
  parts.side = kSide;
  parts.channels = 1;
  return parts;
}

Classifier small_classifier() {
  at::manual_seed(1);
  Classifier classifier(
      ClassifierOptions{.classes = 3, .channels = 1, .side = kSide, .widths = {6, 8}, .feature_width = 5});
  classifier->eval();
  return classifier;
}

Tokenizer small_tokenizer() {
  at::manual_seed(2);
  TokenizerOptions options;
  options.quantizer.codes = 16;
  options.quantizer.code_width = 4;
  options.quantizer.sides = {1, 2, 4};
  options.channels = 1;
  options.ch = 8;
  options.ch_mult = {1, 1};
  options.res_blocks = 1;
  options.norm_groups = 4;
  return Tokenizer(options);
}

void add_picture(const fs::path& path, int value, int64_t side = kSide) {
  fs::create_directories(path.parent_path());
  write_file(path, encode_png(at::full({side, side, 1}, value, at::kByte)));
}

std::vector<int64_t> labels(const std::vector<Sample>& samples) {
  std::vector<int64_t> all;
  for (const auto& sample : samples) all.push_back(sample.label);
  return all;
}

const std::vector<std::string> kNames{"a", "b", "c"};

TEST(JudgedPictures, AreTheSameInAnyBatchAndFromADataSet) {
  auto classifier = small_classifier();
  const auto parts = noise_parts();
  const auto whole = judge_dataset(classifier, *parts.val, parts, {}, {.batch = 100});
  const auto pieces = judge_dataset(classifier, *parts.val, parts, {}, {.batch = 7});
  EXPECT_EQ(whole.features.sizes(), at::IntArrayRef({30, 5}));
  EXPECT_TRUE(all_close(pieces.features, whole.features, {.absolute = 1e-6}));
  EXPECT_TRUE(all_close(pieces.predicted, whole.predicted));
  EXPECT_TRUE(all_close(whole.labels, at::arange(30).remainder(3)));
  EXPECT_NEAR(whole.accuracy(), (whole.predicted == whole.labels).to(at::kDouble).mean().item<double>(), 1e-12);
  EXPECT_THAT(message_of([&] { judge_pictures(classifier, at::zeros({2, 1, 9, 8}), {}); }), HasSubstr("(1, 8, 8)"));
}

TEST(ChosenPositions, AreDifferentPositionsThatTheSeedAloneDecides) {
  const auto chosen = chosen_positions(100, 40, 3);
  EXPECT_EQ(chosen, chosen_positions(100, 40, 3));
  EXPECT_NE(chosen, chosen_positions(100, 40, 4));
  EXPECT_EQ(std::set<int64_t>(chosen.begin(), chosen.end()).size(), 40U);
  EXPECT_EQ(chosen_positions(5, 40, 3).size(), 5U);
  const auto parts = noise_parts();
  const auto some = subset(parts.train, {7, 3});
  EXPECT_EQ(some->size(), 2);
  EXPECT_EQ(some->label(0), 1);
  EXPECT_EQ(some->name(1), "noise[3]");
  EXPECT_TRUE(all_close(some->picture(1), parts.train->picture(3)));
}

TEST(Samples, CarryTheirClassInTheName) {
  EXPECT_EQ(class_in_name("000000_class007.png"), 7);
  EXPECT_EQ(class_in_name("000000_class-01.png"), -1);
  for (const char* name :
       {"000000.png", "000_class.png", "000_class7", "000_classy7.png", "x_class99999999999999999999.png"})
    EXPECT_FALSE(class_in_name(name)) << name;
}

TEST(Samples, AreFoundByNameOrInClassFoldersAndAGridBesideThemIsLeftOut) {
  const TemporaryDirectory folder;
  add_picture(folder / "named" / "000001_class000.png", 1);
  add_picture(folder / "named" / "000000_class002.png", 1);
  add_picture(folder / "named" / "grid.png", 1, 50);
  EXPECT_EQ(labels(find_samples(folder / "named", 3, kNames)), (std::vector<int64_t>{2, 0}));
  add_picture(folder / "plain" / "x.PNG", 1);
  write_file(folder / "plain" / "notes.txt", "no picture");
  EXPECT_EQ(labels(find_samples(folder / "plain", 3, kNames)), (std::vector<int64_t>{-1}));
  add_picture(folder / "classes" / "c" / "1.png", 1);
  add_picture(folder / "classes" / "a" / "1.png", 1);
  EXPECT_EQ(labels(find_samples(folder / "classes", 3, kNames)), (std::vector<int64_t>{0, 2}));
  for (const char* name : {"0", "1", "2"}) add_picture(folder / "numbers" / name / "1.png", 1);
  EXPECT_EQ(labels(find_samples(folder / "numbers", 3, kNames)), (std::vector<int64_t>{0, 1, 2}));
}

TEST(Samples, ThatDoNotFitAreRefusedByName) {
  const TemporaryDirectory folder;
  auto classifier = small_classifier();
  const auto find = [&](const char* name) {
    return message_of([&] { judge_samples(classifier, find_samples(folder / name, 3, kNames), {}); });
  };
  EXPECT_THAT(find("nowhere"), HasSubstr("nowhere"));
  fs::create_directories(folder / "empty");
  EXPECT_THAT(find("empty"), HasSubstr("empty: no pictures"));
  add_picture(folder / "many" / "000000_class003.png", 1);
  EXPECT_THAT(find("many"), HasSubstr("000000_class003.png"));
  add_picture(folder / "strange" / "z" / "1.png", 1);
  EXPECT_THAT(find("strange"), HasSubstr("'z'"));
  fs::create_directories(folder / "hollow" / "a");
  EXPECT_THAT(find("hollow"), HasSubstr("no pictures in this class folder"));
  add_picture(folder / "large" / "000000_class001.png", 1, 9);
  EXPECT_THAT(find("large"), AllOf(HasSubstr("000000_class001.png"), HasSubstr("(8, 8)"), HasSubstr("(9, 9)")));
  fs::create_directories(folder / "broken");
  write_file(folder / "broken" / "000000_class001.png", "no picture at all");
  EXPECT_THAT(find("broken"), HasSubstr("000000_class001.png"));
}

TEST(Samples, AreSeenAsTheClassifierSeesPicturesOfADataSet) {
  const TemporaryDirectory folder;
  auto classifier = small_classifier();
  const auto parts = noise_parts();
  for (int64_t i = 0; i < 5; ++i) {
    write_file(folder / ("00000" + std::to_string(i) + "_class00" + std::to_string(i % 3) + ".png"),
               encode_png(parts.val->picture(i)));
  }
  const auto judged = judge_samples(classifier, find_samples(folder.path(), 3, kNames), {.batch = 2});
  const auto expected = judge_dataset(classifier, *subset(parts.val, {0, 1, 2, 3, 4}), parts, {}, {});
  EXPECT_TRUE(all_close(judged.features, expected.features, {.absolute = 1e-6}));
  EXPECT_TRUE(all_close(judged.labels, expected.labels));
}

TEST(Quality, TellsCopiesFromOtherPictures) {
  auto classifier = small_classifier();
  const auto parts = noise_parts();
  const auto measure = [&](const std::shared_ptr<const Dataset>& samples, Tokenizer tokenizer) {
    const auto judged = judge_dataset(classifier, *samples, parts, {}, {});
    return measure_quality(classifier, std::move(tokenizer), judged, parts, {}, {.real_pictures = 25}, {.batch = 9}, 0,
                           true);
  };
  const auto copies = measure(parts.train, Tokenizer(nullptr));
  EXPECT_EQ(copies.memorisation.share, 1);
  EXPECT_EQ(copies.real_count, 25);
  EXPECT_FALSE(copies.reconstructed);
  EXPECT_FALSE(copies.ratio());

  const auto fresh = measure(std::make_shared<NoiseDataset>(20, 9), small_tokenizer());
  EXPECT_LT(fresh.memorisation.share, 0.5);
  EXPECT_EQ(fresh.real, copies.real);
  EXPECT_EQ(fresh.sampled_count, 20);
  EXPECT_EQ(fresh.reconstructed_count, 20);
  EXPECT_EQ(fresh.tokenizer->pictures, 25);
  EXPECT_EQ(fresh.tokenizer->codes, 16);
  EXPECT_THAT(fresh.tokenizer->codes_used, AllOf(::testing::Ge(1), ::testing::Le(16)));
  EXPECT_THAT(fresh.tokenizer->psnr, AllOf(::testing::Gt(0), ::testing::Lt(20)));
  EXPECT_NEAR(*fresh.ratio(), fresh.sampled / *fresh.reconstructed, 1e-12);
  // An untrained tokenizer makes something else of noise than other noise is.
  EXPECT_GT(*fresh.reconstructed, 2 * fresh.sampled);
}

TEST(Quality, RefusesReferencesAndTokenizersOfOtherPictures) {
  auto classifier = small_classifier();
  const auto judged = judge_pictures(classifier, at::zeros({3, 1, kSide, kSide}), {});
  const auto measured = [&](const DataParts& parts, const Tokenizer& tokenizer) {
    return message_of([&] { measure_quality(classifier, tokenizer, judged, parts, {}, {}, {}, 0, true); });
  };
  auto parts = noise_parts();
  parts.class_names.pop_back();
  EXPECT_THAT(measured(parts, Tokenizer(nullptr)), HasSubstr("number of classes"));
  parts = noise_parts();
  parts.side = 16;
  EXPECT_THAT(measured(parts, Tokenizer(nullptr)), HasSubstr("side"));
  auto options = small_tokenizer()->options();
  options.quantizer.sides = {1, 2};
  EXPECT_THAT(measured(noise_parts(), Tokenizer(options)), HasSubstr("tokenizer"));
}

}  // namespace
}  // namespace nextscale
