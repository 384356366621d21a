// Which rank sees which picture when: the reference's samplers (utils/data_sampler.py).

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/data/sampler.h"
#include "nextscale/tests/support/fixtures.h"

namespace nextscale {
namespace {

TEST(ParitySamplers, TrainingBatchesOfEveryRankAreTheReferences) {
  int64_t compared = 0;
  const auto rows = testing::fixture_table("samplers.json").at("train");
  for (const auto& row : rows) {
    const auto& ranks = row.at("batches_per_rank");
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      TrainingOrder order({.ranks = row.at("world_size"),
                           .rank = static_cast<int64_t>(rank),
                           .pictures = row.at("dataset_len"),
                           .global_batch = row.at("glb_batch_size"),
                           .seed = row.at("same_seed_for_all_ranks"),
                           .repeats = row.at("repeated_aug"),
                           .fill_last = row.at("fill_last"),
                           .shuffle = row.at("shuffle"),
                           .start_epoch = row.at("start_ep")});
      EXPECT_EQ(order.batches_per_epoch(), row.at("iters_per_epoch"));
      for (const auto& batch : ranks[rank]) {
        EXPECT_EQ(order.next(), batch.get<std::vector<int64_t>>()) << row.at("dataset_len") << " rank " << rank;
        ++compared;
      }
    }
  }
  fmt::print("compared samplers: {} batches\n", compared);
  EXPECT_GT(compared, 0);
}

TEST(ParitySamplers, ValidationRangesAreTheReferences) {
  int64_t compared = 0;
  const auto rows = testing::fixture_table("samplers.json").at("eval");
  for (const auto& row : rows) {
    const int64_t ranks = row.at("world_size"), pictures = row.at("dataset_len");
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const auto range = evaluation_range(pictures, ranks, rank);
      const auto& expected = row.at("begin_end")[static_cast<size_t>(rank)];
      if (expected.empty()) {
        EXPECT_EQ(range.begin, range.end);
      } else {
        EXPECT_EQ(range.begin, expected[0]);
        EXPECT_EQ(range.end, expected[1]);
      }
      ++compared;
    }
  }
  fmt::print("compared samplers: {} ranges\n", compared);
  EXPECT_GT(compared, 0);
}

}  // namespace
}  // namespace nextscale
