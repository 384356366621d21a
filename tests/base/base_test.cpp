#include <csignal>
#include <cstdio>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/scales.h"
#include "nextscale/base/stop.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/recipe.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;

TEST(Error, JoinsItsPartsIntoOneLine) {
  EXPECT_STREQ(failure({"vae.safetensors: w", "shape differs", "(4, 2)", "(8, 2)"}).what(),
               "vae.safetensors: w: shape differs: expected (4, 2), got (8, 2)");
  EXPECT_STREQ(failure({"a\nb", "broken", {}, {}}).what(), "a b: broken");
  EXPECT_STREQ(usage({.what = "no verb"}).what(), "no verb");
  EXPECT_EQ(shape_text(std::vector<int64_t>{}), "()");
}

RC_GTEST_PROP(Scales, PiecesTileTheSequence, ()) {
  auto sides = *rc::gen::nonEmpty(rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(1, 33)));
  std::sort(sides.begin(), sides.end());
  const Scales scales(sides);
  int64_t at = 0;
  for (int64_t k = 0; k < scales.count(); ++k) {
    RC_ASSERT(scales.begin(k) == at);
    at = scales.end(k);
    RC_ASSERT(at - scales.begin(k) == sides[static_cast<size_t>(k)] * sides[static_cast<size_t>(k)]);
  }
  RC_ASSERT(at == scales.length());
  RC_ASSERT(scales.sides() == sides);
}

TEST(Scales, RefuseWhatIsNoPyramid) {
  EXPECT_THROW(Scales(std::vector<int64_t>{}), Error);
  EXPECT_THROW(Scales(std::vector<int64_t>{2, 1}), Error);
  EXPECT_THROW(Scales(std::vector<int64_t>{0, 1}), Error);
  EXPECT_THROW(Scales(std::vector<int64_t>{1, 5000}), Error);
}

TEST(Scales, MayBeRectangular) {
  const Scales scales(std::vector<MapSize>{{1, 1}, {2, 3}, {5, 4}});
  EXPECT_EQ(scales.length(), 1 + 6 + 20);
  EXPECT_EQ(scales.text(), "1,2x3,5x4");
  EXPECT_FALSE(scales.is_square());
  EXPECT_THROW(scales.sides(), Error);
}

TEST(Recipe, GivesTheDocumentedValues) {
  EXPECT_EQ(testing::recipe_hash("head.weight"), 0xd2cea44474c6e4f3ULL);
  const auto expected = at::tensor({0x1.0e94d8p+0F, 0x1.1201cp+0F, 0x1.ffe2bep-1F, 0x1.179dfap+0F});
  EXPECT_TRUE(all_close(testing::recipe_tensor("head.weight", {4}, 0.125, 1.0), expected));
  EXPECT_TRUE(
      all_close(testing::recipe_integers("labels", {6}, 1000), at::tensor({603, 842, 929, 514, 979, 484}, at::kLong)));
}

TEST(Random, AGeneratorGoesOnWhereItsStateWasTaken) {
  auto generator = make_generator(7);
  at::rand({3}, generator);
  const auto state = generator_state(generator);
  const auto expected = at::rand({5}, generator);
  auto other = make_generator(0);
  EXPECT_FALSE(all_close(at::rand({5}, other), expected));
  set_generator_state(other, state);
  EXPECT_TRUE(all_close(at::rand({5}, other), expected));
  EXPECT_THROW(set_generator_state(other, at::zeros({3}, at::kByte)), Error);
}

RC_GTEST_PROP(Random, DerivedSeedsDoNotMeet, (uint64_t seed, uint16_t a, uint16_t b)) {
  RC_PRE(a != b);
  RC_ASSERT(derived_seed(seed, a) != derived_seed(seed, b));
  RC_ASSERT(derived_seed(seed, a) != derived_seed(seed + 1, a));
}

TEST(Autocast, GuardsNestAndPutBackWhatWas) {
  using at::autocast::get_autocast_dtype;
  using at::autocast::is_autocast_enabled;
  const auto product = [] { return at::mm(at::ones({2, 2}), at::ones({2, 2})).scalar_type(); };
  EXPECT_EQ(product(), at::kFloat);
  {
    const AutocastGuard reduced(at::kCPU, at::kBFloat16);
    EXPECT_EQ(product(), at::kBFloat16);
    {
      const AutocastGuard full(at::kCPU, at::kFloat);
      EXPECT_EQ(product(), at::kFloat);
    }
    EXPECT_EQ(product(), at::kBFloat16);
  }
  EXPECT_EQ(product(), at::kFloat);
}

TEST(Runtime, UnknownDevicesAndDtypesAreUsageErrors) {
  for (const char* name : {"gpu", "cuda:", "cuda:x", "cuda0", "CPU", ""}) {
    SCOPED_TRACE(name);
    try {
      resolve_device(name);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_THAT(error.what(), HasSubstr("--device"));
    }
  }
  EXPECT_EQ(resolve_device("cpu").type(), at::kCPU);
  EXPECT_EQ(resolve_dtype("float32", at::kCPU), at::kFloat);
  EXPECT_THROW(resolve_dtype("float64", at::kCPU), Error);
}

TEST(StopOnSignal, RemembersTheSignalAndItsExitCode) {
  {
    const StopOnSignal stop;
    EXPECT_FALSE(stop.requested());
    EXPECT_EQ(stop.exit_code(), ExitCode::done);
    std::raise(SIGTERM);
    EXPECT_TRUE(stop.requested());
    EXPECT_EQ(stop.exit_code(), ExitCode::terminated);
  }
  const StopOnSignal again;
  EXPECT_FALSE(again.requested()) << "an old request must not end a new job";
  std::raise(SIGINT);
  EXPECT_EQ(again.exit_code(), ExitCode::interrupted);
}

TEST(StopOnSignal, ASecondSignalKills) {
  EXPECT_EXIT(
      {
        const StopOnSignal stop;
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST(Progress, SaysLittleWhereNobodyLooks) {
  const testing::TemporaryDirectory folder;
  const auto file = folder / "progress.txt";
  std::FILE* out = std::fopen(file.c_str(), "w");
  {
    Progress progress("training", 100, "pictures", false, out);
    for (int64_t i = 1; i <= 100; ++i) progress.update(i, "loss 1.25");
  }
  {
    Progress quiet("training", 100, "pictures", true, out);
    quiet.update(100);
  }
  std::fclose(out);
  const auto text = testing::read_file(file);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, HasSubstr("training 100 %  100/100 pictures"));
  EXPECT_THAT(text, HasSubstr("loss 1.25"));
  EXPECT_EQ(text.find('\r'), std::string::npos);
  for (const char c : text)
    EXPECT_LT(static_cast<unsigned char>(c), 128) << "ASCII where the stream is no UTF-8 terminal";
}

TEST(Progress, DurationsReadLikeClocks) {
  EXPECT_EQ(Progress::duration_text(12.4), "12 s");
  EXPECT_EQ(Progress::duration_text(200), "3:20");
  EXPECT_EQ(Progress::duration_text(3909), "1:05:09");
  EXPECT_EQ(Progress::duration_text(-1), "0 s");
}

}  // namespace
}  // namespace nextscale
