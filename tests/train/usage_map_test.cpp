#include "nextscale/train/usage_map.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace nextscale {
namespace {

nlohmann::json validation(int64_t step, double coarse, double fine) {
  return {{"step", step},
          {"validation", {{"pictures", 100}, {"psnr", 20}, {"perplexity_1x1", coarse}, {"perplexity_2x2", fine}}}};
}

TEST(UsageMap, IsBrighterWhereCodesAreUsedMoreEvenly) {
  const Scales scales(std::vector<int64_t>{1, 2});
  const auto even = usage_map({validation(10, 64, 64)}, scales, 64);
  const auto collapsed = usage_map({validation(10, 1, 1)}, scales, 64);
  ASSERT_EQ(even.dim(), 3);
  EXPECT_EQ(even.size(2), 3);
  // Cells differ, labels do not.
  EXPECT_GT(even.to(at::kFloat).mean().item<double>(), collapsed.to(at::kFloat).mean().item<double>());
}

TEST(UsageMap, HasAColumnAValidationAndNoneBeforeThereAreCodes) {
  const Scales scales(std::vector<int64_t>{1, 2});
  const nlohmann::json without_codes = {{"step", 5}, {"validation", {{"psnr", 20}}}}, training = {{"step", 1}};
  EXPECT_FALSE(usage_map({training, without_codes}, scales, 64).defined());
  const auto one = usage_map({training, without_codes, validation(10, 3, 4)}, scales, 64);
  const auto two = usage_map({validation(10, 3, 4), validation(20, 5, 6)}, scales, 64);
  EXPECT_EQ(one.size(0), two.size(0));
  EXPECT_GT(two.size(1), one.size(1));
}

}  // namespace
}  // namespace nextscale
