#include "nextscale/sample/plan.h"

#include <functional>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/sample/filter_and_draw.h"
#include "nextscale/sample/gallery.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string usage_error(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "nothing was refused";
}

TEST(ParseClasses, TakesNumbersRangesAndAll) {
  EXPECT_THAT(parse_classes("0-3", 10), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(parse_classes("7,0-1,7", 10), ElementsAre(7, 0, 1, 7));
  EXPECT_THAT(parse_classes("-1,9", 10), ElementsAre(-1, 9));
  EXPECT_THAT(parse_classes("all", 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(parse_classes("all", 0), ElementsAre(-1));
}

TEST(ParseClasses, RefusesWhatIsNoClass) {
  for (const char* text : {"a", "1-", "1-2-3", "3-1", "1,,2", ",", "1.5", " 1", "-1-3", "99999999999999999999"}) {
    SCOPED_TRACE(text);
    EXPECT_THAT(usage_error([&] { parse_classes(text, 10); }), HasSubstr("--classes: cannot be parsed"));
  }
  for (const char* text : {"10", "0-10", "-2", "0-4000000000000000000"}) {
    SCOPED_TRACE(text);
    EXPECT_THAT(usage_error([&] { parse_classes(text, 10); }), HasSubstr("--classes: out of range: expected -1 to 9"));
  }
  EXPECT_THAT(usage_error([] { parse_classes("0", 0); }), HasSubstr("the model has no classes"));
}

TEST(PlanBatches, LabelsAreOneBatchWhateverTheBatchSize) {
  const auto plan = plan_batches({.labels = {0, 0, -1, 7}, .batch = 2}, 10, 5);
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_THAT(plan[0].labels, ElementsAre(0, 0, -1, 7));
  EXPECT_EQ(plan[0].seed, 5U);
  EXPECT_THAT(usage_error([] { plan_batches({.labels = {0, 10}}, 10, 0); }),
              HasSubstr("--labels: out of range: expected -1 to 9, the model's classes, got 10"));
}

TEST(PlanBatches, RandomLabelsAreDrawnFirstFromTheGeneratorThatGoesOn) {
  const auto plan = plan_batches({.random_labels = 20, .batch = 4}, 10, 5);
  ASSERT_EQ(plan.size(), 1U);
  auto generator = make_generator(5);
  EXPECT_TRUE(all_close(at::tensor(plan[0].labels), draw_random_labels(20, 10, generator)));
  EXPECT_TRUE(all_close(generator_state(plan[0].generator()), generator_state(generator)));
  EXPECT_THAT(plan_batches({.random_labels = 2}, 0, 5)[0].labels, ElementsAre(-1, -1));
}

TEST(PlanBatches, ClassesAreCutIntoBatchesWithSeedsOfTheirOwn) {
  const auto plan = plan_batches({.classes = "2-4", .per_class = 3, .batch = 4}, 10, 100);
  ASSERT_EQ(plan.size(), 3U);
  EXPECT_THAT(plan[0].labels, ElementsAre(2, 2, 2, 3));
  EXPECT_THAT(plan[1].labels, ElementsAre(3, 3, 4, 4));
  EXPECT_THAT(plan[2].labels, ElementsAre(4));
  for (size_t i = 0; i < plan.size(); ++i) {
    EXPECT_TRUE(all_close(generator_state(plan[i].generator()), generator_state(make_generator(100 + i))));
  }
  EXPECT_THAT(usage_error([] { plan_batches({.classes = "all", .per_class = 1 << 20}, 10, 0); }),
              HasSubstr("too many pictures"));
}

TEST(PickAcrossClasses, ShowsAsManyClassesAsThereAreEvenly) {
  const std::vector<SampleBatch> plan{{{0, 0, 0, 1, 1}, 0}, {{1, 2, 2, 2}, 1}};
  EXPECT_THAT(pick_across_classes(plan, 3), ElementsAre(0, 3, 6));
  EXPECT_THAT(pick_across_classes(plan, 2), ElementsAre(0, 3));
  EXPECT_THAT(pick_across_classes(plan, 6), ElementsAre(0, 1, 3, 4, 6, 7));
}

// ---- gallery ----

TEST(Gallery, NamesClassesByNumberAndName) {
  EXPECT_EQ(label_text(1, {"shirt", "boot"}), "1 boot");
  EXPECT_EQ(label_text(2, {"shirt", "boot"}), "class 2");
  EXPECT_EQ(label_text(1, {"0", "1"}), "class 1");
  EXPECT_EQ(label_text(-1, {"shirt"}), "no label");
}

bool has_cell(const at::Tensor& grid, int64_t value) {
  // A cell of one value is 64 x 64 pixels of it; smoothed text has fewer of any grey.
  return grid.eq(value).all(-1).sum().item<int64_t>() >= 64 * 64;
}

TEST(Gallery, PutsPicturesOfAClassIntoItsRow) {
  auto pictures = at::zeros({5, 1, 8, 8}, at::kByte);
  for (int64_t i = 0; i < 5; ++i) pictures[i].fill_(10 * (i + 1));
  const auto grid = class_grid(pictures, {3, 0, 3, 3, 0}, {});
  ASSERT_EQ(grid.size(0), 2 * (64 + 4) + 4);
  const auto upper = grid.narrow(0, 0, 68);
  const auto lower = grid.narrow(0, 68, 68);
  for (const int64_t value : {20, 50}) EXPECT_TRUE(has_cell(upper, value)) << value;
  for (const int64_t value : {10, 30, 40}) EXPECT_TRUE(has_cell(lower, value)) << value;
}

TEST(Gallery, PacksSinglePicturesOfManyClasses) {
  const auto grid = class_grid(at::zeros({9, 3, 64, 64}), {0, 1, 2, 3, 4, 5, 6, 7, 8}, {});
  EXPECT_EQ(grid.size(1), 3 * (64 + 4) + 4);
}

TEST(Gallery, StripHasAColumnAScale) {
  std::vector<at::Tensor> after_scale;
  for (int64_t k = 0; k < 3; ++k) after_scale.push_back(at::full({2, 3, 64, 64}, 0.2 * static_cast<double>(k + 1)));
  const auto strip = scale_strip(after_scale, {"1x1", "2x2", "3x3"}, {0, 1}, {"a", "b"});
  const auto third = strip.narrow(1, strip.size(1) - 68, 64);
  EXPECT_GE(third.eq(153).all(-1).sum().item<int64_t>(), 2 * 64 * 64);
  EXPECT_THROW(scale_strip(after_scale, {}, {0}, {}), Error);
}

}  // namespace
}  // namespace nextscale::testing
