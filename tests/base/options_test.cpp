#include "nextscale/base/options.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/command_line.h"
#include "nextscale/base/error.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;

struct Toy {
  double cfg = 1.5;
  int64_t top_k = 900;
  std::string mode = "plain";
  bool smooth = false;
  std::vector<int64_t> sides = {1, 2, 3};

  static constexpr auto table() {
    using O = Toy;
    return std::tuple{
        option("cfg", &O::cfg, "guidance", between(0.0, 50.0)),
        option("top_k", &O::top_k, "likeliest codes", at_least(0)),
        option("mode", &O::mode, "how", one_of("plain", "fancy")),
        option("smooth", &O::smooth, "soft"),
        option("sides", &O::sides, "sides", between(1, 64)),
    };
  }
};

std::string message_of(const std::function<void()>& action, ExitCode code = ExitCode::usage) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

TEST(Options, AreReadFromWordsJsonAndBack) {
  Toy toy;
  CommandLine line("nextscale toy", "A toy.");
  line.add("toy", bind_options(toy));
  ASSERT_TRUE(line.parse({"--cfg", "3", "--top-k=0", "--smooth", "--sides", "1,2,4"}));
  EXPECT_EQ(toy.cfg, 1.5) << "parsing alone changes nothing";
  line.apply();
  EXPECT_EQ(toy.cfg, 3);
  EXPECT_EQ(toy.top_k, 0);
  EXPECT_TRUE(toy.smooth);
  EXPECT_EQ(toy.sides, (std::vector<int64_t>{1, 2, 4}));
  EXPECT_TRUE(line.given("top_k"));
  EXPECT_FALSE(line.given("mode"));

  Toy copy;
  options_from_json(copy, options_to_json(toy), "config.json");
  EXPECT_EQ(options_to_json(copy), options_to_json(toy));
}

TEST(Options, WhatWasGivenWinsOverWhatAPresetFilledIn) {
  Toy toy;
  CommandLine line("nextscale toy", "A toy.");
  line.add("toy", bind_options(toy));
  ASSERT_TRUE(line.parse({"--cfg", "3"}));
  toy.cfg = 9;     // a preset
  toy.top_k = 10;  // a preset
  line.apply();
  EXPECT_EQ(toy.cfg, 3);
  EXPECT_EQ(toy.top_k, 10);
}

TEST(Options, NegativeValuesAreValuesAndNotOptions) {
  Toy toy;
  CommandLine line("nextscale toy", "A toy.");
  line.add("toy", bind_options(toy));
  EXPECT_THAT(message_of([&] { line.parse({"--top-k", "-1"}); }),
              HasSubstr("--top-k: out of range: expected at least 0"));
}

TEST(Options, WrongWordsAreOneLineThatPointsToHelp) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"--cfg", "nan"}, "--cfg: out of range"},
      {{"--cfg", "51"}, "expected between 0 and 50, got '51'"},
      {{"--cfg", "1.5x"}, "--cfg: cannot be parsed: expected a number, got '1.5x'"},
      {{"--top-k", "1.5"}, "--top-k: cannot be parsed: expected a whole number"},
      {{"--top-k", "99999999999999999999"}, "--top-k: cannot be parsed"},
      {{"--mode", "odd"}, "--mode: out of range: expected one of plain, fancy, got 'odd'"},
      {{"--sides", "1,,2"}, "--sides: cannot be parsed"},
      {{"--sides", ""}, "--sides: out of range"},
      {{"--smooth=perhaps"}, "--smooth: cannot be parsed"},
      {{"--unknown", "1"}, "unknown"},
      {{"--cfg"}, "cfg"},
      {{"word"}, "'word': is no option"},
  };
  for (const auto& [words, expected] : cases) {
    SCOPED_TRACE(words[0]);
    Toy toy;
    CommandLine line("nextscale toy", "A toy.");
    line.add("toy", bind_options(toy));
    const auto message = message_of([&, &words = words] { line.parse(words); });
    EXPECT_THAT(message, HasSubstr(expected));
    EXPECT_THAT(message, HasSubstr("--help"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_EQ(options_to_json(toy), options_to_json(Toy{})) << "nothing may change";
  }
}

TEST(Options, ExclusiveAndRequiredOptionsAreNamed) {
  Toy toy;
  CommandLine line("nextscale toy", "A toy.");
  line.add("toy", bind_options(toy));
  ASSERT_TRUE(line.parse({"--cfg", "1", "--mode", "plain"}));
  EXPECT_THAT(message_of([&] { line.exclusive({"cfg", "top_k", "mode"}); }),
              HasSubstr("--cfg, --mode: exclude each other"));
  EXPECT_THAT(message_of([&] { line.require("top_k"); }), HasSubstr("--top-k: is missing"));
  EXPECT_NO_THROW(line.require("cfg"));
}

TEST(Options, JsonWithUnknownKeysWrongTypesOrRangesIsRefusedByName) {
  Toy toy;
  const auto read = [&](const nlohmann::json& json) {
    return message_of([&] { options_from_json(toy, json, "run/config.json"); }, ExitCode::failure);
  };
  EXPECT_THAT(read({{"cfgg", 1.0}}), HasSubstr("run/config.json: unknown key 'cfgg'"));
  EXPECT_THAT(read({{"cfg", "1"}}), HasSubstr("run/config.json: cfg: wrong type: expected a number"));
  EXPECT_THAT(read({{"sides", {1, "2"}}}), HasSubstr("sides: wrong type"));
  EXPECT_THAT(read({{"top_k", -1}}), HasSubstr("top_k: out of range"));
  EXPECT_THAT(read(nlohmann::json::array()), HasSubstr("not a configuration"));
}

TEST(Options, HelpNamesEveryOptionWithDefaultAndRule) {
  Toy toy;
  CommandLine line("nextscale toy --out DIR", "A toy.");
  line.add("toy options", bind_options(toy));
  EXPECT_FALSE(line.parse({"--help"}));
  const auto help = line.help();
  for (const char* part : {"usage: nextscale toy --out DIR", "--cfg", "guidance; between 0 and 50 [1.5]", "--top-k",
                           "[900]", "--sides", "[1,2,3]", "--help"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
}

TEST(Options, DoublesKeepEveryBitThroughTextAndJson) {
  Toy toy;
  toy.cfg = 0.1 + 0.2;
  const auto bound = bind_options(toy);
  const std::string text = bound[0].text();
  toy.cfg = 0;
  bound[0].parse(text);
  EXPECT_EQ(toy.cfg, 0.1 + 0.2);
}

}  // namespace
}  // namespace nextscale
