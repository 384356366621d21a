#include "nextscale/data/grid.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale::testing {
namespace {

TEST(ComposeGrid, EnlargesEveryPixelByAWholeFactor) {
  const auto picture = at::tensor({0, 50, 100, 150}, at::kByte).view({1, 1, 2, 2});
  const auto grid = compose_grid(picture, {.zoom = 3});
  const auto inside = grid.narrow(0, 4, 6).narrow(1, 4, 6);
  EXPECT_EQ(grid.sizes(), (std::vector<int64_t>{6 + 8, 6 + 8, 3}));
  for (int64_t y = 0; y < 6; ++y) {
    for (int64_t x = 0; x < 6; ++x) {
      EXPECT_EQ(inside[y][x][1].item<int64_t>(), picture[0][0][y / 3][x / 3].item<int64_t>());
    }
  }
  EXPECT_EQ(grid.narrow(0, 0, 4).min().item<int64_t>(), 255) << "the margin is white";
}

TEST(ComposeGrid, MakesSmallPicturesLargeEnoughToLookAt) {
  EXPECT_EQ(compose_grid(at::zeros({1, 1, 28, 28})).size(0), 28 * 3 + 8);
  EXPECT_EQ(compose_grid(at::zeros({1, 3, 64, 64})).size(0), 64 + 8);
  EXPECT_EQ(compose_grid(at::zeros({1, 3, 256, 256})).size(0), 256 + 8);
}

TEST(ComposeGrid, RoundsUnitRangeAndKeepsColours) {
  auto pictures = at::zeros({1, 3, 64, 64});
  pictures[0][0].fill_(1.5);    // beyond the range
  pictures[0][1].fill_(0.499);  // 127.2
  const auto pixel = compose_grid(pictures)[20][20];
  EXPECT_TRUE(all_close(pixel, at::tensor({255, 127, 0})));
}

TEST(ComposeGrid, FillsRowsInOrderAndLeavesTheRestWhite) {
  auto pictures = at::zeros({3, 1, 64, 64}, at::kByte);
  for (int64_t i = 0; i < 3; ++i) pictures[i].fill_(i);
  const auto grid = compose_grid(pictures, {.columns = 2});
  const auto centre = [&](int64_t row, int64_t column) {
    return grid[4 + row * 68 + 32][4 + column * 68 + 32][0].item<int64_t>();
  };
  EXPECT_EQ(centre(0, 1), 1);
  EXPECT_EQ(centre(1, 0), 2);
  EXPECT_EQ(centre(1, 1), 255);
}

TEST(ComposeGrid, WritesLabelsBesideThePicturesAndNotOverThem) {
  const auto white = at::full({4, 1, 64, 64}, 255, at::kByte);
  const auto grid = compose_grid(white, {.columns = 2,
                                         .row_labels = {"T-shirt/top", "Caf\xc3\xa9"},
                                         .column_labels = {"1x1", "2x2"},
                                         .captions = {"a very long caption that does not fit", "b"}});
  const auto dark = grid.lt(128).any(-1);
  const int64_t left = grid.size(1) - 2 * 68;
  EXPECT_TRUE(dark.narrow(1, 0, left).any().item<bool>()) << "row labels";
  EXPECT_TRUE(dark.narrow(1, left, 136).narrow(0, 0, 18).any().item<bool>()) << "column labels";
  EXPECT_FALSE(dark.narrow(1, left, 136).narrow(0, 18, 64).any().item<bool>()) << "pictures stay as they are";
  EXPECT_TRUE(dark.narrow(1, left, 136).narrow(0, 82, 18).any().item<bool>()) << "captions";
}

TEST(ComposeGrid, RefusesOtherShapes) {
  EXPECT_THROW(compose_grid(at::zeros({3, 8, 8})), Error);
  EXPECT_THROW(compose_grid(at::zeros({1, 2, 8, 8})), Error);
}

}  // namespace
}  // namespace nextscale::testing
