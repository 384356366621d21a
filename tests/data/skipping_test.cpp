#include <set>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/data/loader.h"
#include "nextscale/tests/data/dataset_support.h"

namespace nextscale {
namespace {

using testing::add_picture;
using testing::at_path;
using testing::complaint;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::labels;
using testing::names;
using testing::png;
using testing::TemporaryDirectory;
using testing::value;
using testing::write_file;

void add_bad(const std::filesystem::path& path) { write_file(path, png(99).substr(0, 60)); }

DataOptions skipping(const std::filesystem::path& path) {
  auto options = at_path(path);
  options.skip_bad = true;
  options.val_share = 0;
  return options;
}

std::vector<int> values(const Dataset& dataset) {
  std::vector<int> result;
  for (int64_t i = 0; i < dataset.size(); ++i) result.push_back(value(dataset, i));
  return result;
}

TEST(SkipBad, TheNextGoodPictureOfItsClassTakesThePlaceOfABadOne) {
  const TemporaryDirectory folder;
  add_bad(folder / "a/0.png");
  add_picture(folder / "a/1.png", 1);
  add_bad(folder / "a/2.png");
  add_bad(folder / "a/3.png");
  add_picture(folder / "a/4.png", 4);
  add_picture(folder / "b/5.png", 5);
  add_bad(folder / "b/6.png");  // after the last one comes the first one of the class
  const auto parts = open_data(skipping(folder.path()));
  EXPECT_THAT(values(*parts.train), ElementsAre(1, 1, 4, 4, 4, 5, 5));
  EXPECT_THAT(labels(*parts.train), ElementsAre(0, 0, 0, 0, 0, 1, 1));
  EXPECT_EQ(names(*parts.train)[2], "a/2.png");
  std::vector<bool> replaced;
  for (int64_t i = 0; i < parts.train->size(); ++i) replaced.push_back(parts.train->is_replaced(i));
  EXPECT_THAT(replaced, ElementsAre(true, false, true, true, false, false, true));
  const auto faults = parts.train->faults();
  ASSERT_EQ(faults.size(), 4u);
  EXPECT_THAT(faults[1], EndsWith("a/2.png: damaged picture: PNG: the file ends early"));
  EXPECT_TRUE(parts.val->faults().empty());
}

TEST(SkipBad, AClassWithoutAnyGoodPictureIsAnError) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1);
  add_bad(folder / "b/1.png");
  add_bad(folder / "b/2.png");
  // so few pictures are all looked at when the data is opened
  EXPECT_THAT(
      complaint(skipping(folder.path())),
      EndsWith("b/1.png: damaged picture: PNG: the file ends early: no other picture of its class can be decoded "
               "either (--skip-bad)"));
}

TEST(SkipBad, WhatCannotEvenBeReadStillStops) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1);
  add_picture(folder / "a/2.png", 2);
  const auto parts = open_data(skipping(folder.path()));
  std::filesystem::remove(folder / "a/2.png");
  EXPECT_THROW(parts.train->picture(1), Error);
  EXPECT_FALSE(parts.train->is_replaced(1));
}

TEST(SkipBad, ABadHeaderDecidesNothing) {
  const TemporaryDirectory folder;
  write_file(folder / "a/0.png", "<html>");
  write_file(folder / "a/1.png", png(1, 9, 5).substr(0, 60));  // says 5 x 9
  add_picture(folder / "a/2.png", 2);
  auto options = skipping(folder.path());
  const auto parts = open_data(options);
  EXPECT_EQ(parts.side, 8);
  EXPECT_FALSE(parts.resize);
  options.skip_bad = false;
  EXPECT_THAT(complaint(options), HasSubstr("a/0.png: not a picture"));
}

TEST(SkipBad, NoHeldOutPictureSlipsIntoTraining) {
  const TemporaryDirectory folder;
  for (int i = 0; i < 60; ++i) {
    const auto path = folder / ("a/" + std::to_string(100 + i) + ".png");
    i % 3 == 0 ? add_bad(path) : add_picture(path, i);
  }
  auto options = skipping(folder.path());
  options.val_share = 0.4;
  const auto parts = open_data(options);
  ASSERT_GT(parts.val->size(), 10);
  const auto own = [](const Dataset& part) {
    std::set<int> good;
    for (int64_t i = 0; i < part.size(); ++i) {
      const int number = std::stoi(part.name(i).substr(2, 3)) - 100;
      if (number % 3 != 0) good.insert(number);
    }
    return good;
  };
  for (const auto* part : {parts.train.get(), parts.val.get()}) {
    const auto good = own(*part);
    for (const int shown : values(*part)) EXPECT_EQ(good.count(shown), 1u) << shown;
  }
}

TEST(SkipBad, NeitherWorkersNorResumingChangeABatchOrItsCount) {
  const TemporaryDirectory folder;
  for (int i = 0; i < 40; ++i) {
    const auto path = folder / ((i % 2 == 0 ? "a/" : "b/") + std::to_string(100 + i) + ".png");
    i % 7 == 3 ? add_bad(path) : add_picture(path, i, 12, 14);
  }
  auto options = skipping(folder.path());
  options.side = 8;
  const auto loader = [&](int64_t workers) {
    options.workers = workers;
    const auto parts = open_data(options);
    return Loader(parts.train, parts, options, 8, 5);
  };
  auto plain = loader(0), four = loader(4);
  int64_t replaced = 0;
  for (int64_t step = 0; step < 12; ++step) {
    const auto expected = plain.batch(step), got = four.batch(step);
    EXPECT_TRUE(got.pictures.equal(expected.pictures)) << step;
    EXPECT_TRUE(got.labels.equal(expected.labels)) << step;
    EXPECT_EQ(got.replaced, expected.replaced) << step;
    EXPECT_TRUE(expected.pictures.eq(99.0f / 255 * 2 - 1).logical_not().all().item<bool>());
    replaced += expected.replaced;
    if (step != 7) continue;
    auto resumed = loader(2);
    const auto again = resumed.batch(7);
    EXPECT_TRUE(again.pictures.equal(expected.pictures));
    EXPECT_EQ(again.replaced, expected.replaced);
  }
  EXPECT_GE(replaced, 10);  // 6 of 40 in each of more than two epochs
  EXPECT_LE(replaced, 18);
}

}  // namespace
}  // namespace nextscale
