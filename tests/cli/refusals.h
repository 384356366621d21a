#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/tests/support/program.h"

namespace nextscale::testing {

/// A call that must end with `code`, one line on stderr, nothing on stdout, and none of these files written.
inline void expect_refusal(const std::vector<std::string>& words, int code,
                           const ::testing::Matcher<const std::string&>& says,
                           const std::vector<std::string>& unwritten) {
  const auto result = run_nextscale(words);
  EXPECT_EQ(result.code, code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.error_lines().size(), 1U) << result.err;
  EXPECT_THAT(result.err, ::testing::AllOf(::testing::StartsWith("nextscale: "), says));
  for (const auto& file : unwritten) EXPECT_FALSE(std::filesystem::exists(file)) << file;
}

}  // namespace nextscale::testing
