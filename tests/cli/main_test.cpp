#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/tests/support/program.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::vector<std::string> kVerbs{"train-tokenizer", "eval-tokenizer",   "cache-tokens", "train",
                                      "sample",          "train-classifier", "classify",     "inspect"};

TEST(CommandLine, HelpGoesToStdoutAndEndsWithZero) {
  const auto overview = run_nextscale({"--help"});
  EXPECT_EQ(overview.code, 0);
  EXPECT_EQ(overview.err, "");
  for (const auto& verb : kVerbs) {
    SCOPED_TRACE(verb);
    EXPECT_THAT(overview.out, HasSubstr(verb));
    const auto help = run_nextscale({verb, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_THAT(help.out, StartsWith("usage: nextscale " + verb));
  }
}

TEST(CommandLine, EveryVerbThatComputesTakesTheCommonOptions) {
  for (const auto& verb : kVerbs) {
    if (verb == "inspect") continue;
    SCOPED_TRACE(verb);
    const auto help = run_nextscale({verb, "--help"});
    for (const char* flag : {"--device", "--dtype", "--seed", "--threads", "--quiet", "--trace"})
      EXPECT_THAT(help.out, HasSubstr(flag));
  }
}

TEST(CommandLine, WrongWordsAreOneLineAndExitCodeTwo) {
  std::vector<std::vector<std::string>> wrong{{}, {"fly"}, {"--fly"}};
  for (const auto& verb : kVerbs) {
    wrong.push_back({verb});  // everything that a verb requires is missing
    wrong.push_back({verb, "--no-such-option", "1"});
  }
  for (const auto& words : wrong) {
    SCOPED_TRACE(words.empty() ? "no verb" : words[0]);
    const auto result = run_nextscale(words);
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.out, "");
    ASSERT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, StartsWith("nextscale: "));
    EXPECT_THAT(result.err, HasSubstr("--help"));
  }
}

TEST(CommandLine, VersionNamesProgramAndLibrary) {
  const auto result = run_nextscale({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, StartsWith("nextscale "));
  EXPECT_THAT(result.out, HasSubstr("LibTorch"));
}

}  // namespace
}  // namespace nextscale::testing
