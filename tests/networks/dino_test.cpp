#include "nextscale/networks/dino.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/networks/discriminator_support.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using ::testing::AllOf;
using testing::copied;
using ::testing::HasSubstr;
using testing::made_up;
using testing::message_of;
using testing::same;
using testing::small_trunk;
using testing::TemporaryDirectory;

TEST(DinoCrop, IsDrawnForHalfOfTheLargePictures) {
  auto draws = make_generator(2);
  int64_t cut = 0, highest = 0, widest = 0;
  for (int i = 0; i < 4000; ++i) {
    const auto crop = draw_dino_crop(256, 230, draws);
    if (!crop) continue;
    ++cut;
    ASSERT_TRUE(crop->top >= 0 && crop->top <= 32 && crop->left >= 0 && crop->left <= 6);
    highest = std::max(highest, crop->top);
    widest = std::max(widest, crop->left);
  }
  EXPECT_NEAR(static_cast<double>(cut) / 4000, 0.5, 0.03);
  EXPECT_EQ(highest, 32);
  EXPECT_EQ(widest, 6);
  const auto state = generator_state(draws).clone();
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{224, 224}, {64, 64}, {300, 200}}) {
    EXPECT_FALSE(draw_dino_crop(height, width, draws).has_value());
  }
  EXPECT_TRUE(generator_state(draws).equal(state)) << "smaller pictures draw nothing";
}

TEST(Dino, TapsStayFloat32UnderAutocast) {
  const at::NoGradGuard no_grad;
  auto trunk = small_trunk();
  const auto pictures = made_up("x", {2, 3, 32, 48});
  const auto expected = trunk->taps(pictures);
  const AutocastGuard autocast(c10::kCPU, at::kBFloat16);
  const auto taps = trunk->taps(pictures);
  ASSERT_EQ(taps.size(), 5U);
  for (size_t k = 0; k < taps.size(); ++k) {
    EXPECT_EQ(taps[k].scalar_type(), at::kFloat);
    EXPECT_EQ(taps[k].sizes(), at::IntArrayRef({2, 32, 24}));
    EXPECT_LE(((taps[k] - expected[k]).norm() / expected[k].norm()).item<double>(), 1e-2) << k;
  }
  EXPECT_EQ(trunk->class_token(pictures).sizes(), at::IntArrayRef({2, 32}));
}

TEST(Dino, RefusesWhatDoesNotFitWithOneLine) {
  EXPECT_THAT(message_of([] { small_trunk()->taps(made_up("x", {2, 3, 32, 36})); }),
              AllOf(HasSubstr("no multiples of a patch"), HasSubstr("(2, 3, 32, 36)")));
  EXPECT_THAT(message_of([] { dino_prepare(made_up("x", {1, 3, 250, 250}), DinoCrop{.top = 27, .left = 0}); }),
              HasSubstr("the crop leaves the picture"));
  EXPECT_THAT(message_of([] { dino_prepare(made_up("x", {3, 64, 64})); }), HasSubstr("got (3, 64, 64)"));
}

TEST(Dino, ComesBackFromItsFile) {
  const TemporaryDirectory folder;
  const auto path = folder / "dino_deitsmall16_pretrain.pth";
  EXPECT_THAT(
      message_of([&] { load_dino(path); }),
      AllOf(HasSubstr(path.string()), HasSubstr("'scripts/download-weights.sh FOLDER dino_deitsmall16_pretrain.pth'")));
  const Dino published;
  EXPECT_EQ(state_dict(*published).size(), 150U);
  write_pth(path, state_dict(*published));
  auto again = load_dino(path, DinoOptions::Gelu::erf);
  EXPECT_TRUE(same(*again, state_dict(*published)));
  EXPECT_FALSE(again->is_training());
  EXPECT_EQ(again->options().gelu, DinoOptions::Gelu::erf);
  for (const auto& parameter : again->parameters()) EXPECT_FALSE(parameter.requires_grad());

  auto broken = copied(*published);
  broken.back().second[3] = std::nan("");
  write_pth(path, broken);
  EXPECT_THAT(message_of([&] { load_dino(path); }), AllOf(HasSubstr("norm.bias"), HasSubstr("not finite")));
  broken.pop_back();
  write_pth(path, broken);
  EXPECT_THAT(message_of([&] { load_dino(path); }), AllOf(HasSubstr("norm.bias"), HasSubstr("missing")));
}

}  // namespace
}  // namespace nextscale
