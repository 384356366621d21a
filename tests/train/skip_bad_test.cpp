#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/stop.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/json_file.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/train/metrics_log.h"
#include "nextscale/train/token_caching.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;
using testing::read_file;
using testing::Squares;
using testing::TemporaryDirectory;
using testing::write_file;

constexpr int64_t kSkippingSteps = 20;

/// The toy's squares as PNG files, some of which are cut.
DataOptions folder_of_pictures(const std::filesystem::path& folder) {
  const Squares squares(40, 1);
  for (int64_t i = 0; i < squares.size(); ++i) {
    const auto file = encode_png(squares.picture(i));
    const auto name = std::to_string(100 + i) + ".png";
    for (const char* part : {"train", "val"}) {
      const bool bad = i % 9 == 4;
      write_file(folder / part / (i % 2 == 0 ? "a" : "b") / name, bad ? file.substr(0, 60) : file);
    }
  }
  DataOptions options;
  options.data = folder.string();
  options.channels = 1;
  options.workers = 2;
  options.skip_bad = true;
  return options;
}

void call(const std::filesystem::path& run, const DataOptions& data, int64_t max_steps) {
  const StopOnSignal stop;
  auto recipe = testing::tiny_tokenizer_recipe();
  TokenizerTrainer trainer(recipe, open_data(data), data, kSkippingSteps, 3, at::kCPU, at::kFloat);
  Run opened(run, "test", nlohmann::json::object(), {}, "test");
  LoopOptions options;
  options.batch = recipe.loop.batch;
  options.max_steps = max_steps;
  options.save_every = 5;
  run_loop(opened, trainer, options, kSkippingSteps, stop, /*quiet=*/true);
}

TEST(SkipBad, ARunCountsAndNamesBadPicturesAndResumesExactly) {
  const TemporaryDirectory folder;
  const auto data = folder_of_pictures(folder / "data");
  call(folder / "whole", data, 0);
  call(folder / "stopped", data, 7);
  call(folder / "stopped", data, 0);
  const auto file = [&](const char* run, const char* name) {
    return folder / run / "checkpoints/step_00000020" / name;
  };
  for (const char* name : {"model.safetensors", "ema.safetensors", "optimizer.safetensors"}) {
    EXPECT_EQ(read_file(file("whole", name)), read_file(file("stopped", name))) << name;
  }
  const auto result = read_json_file(folder / "whole/finished.json");
  const auto count = result.at("replaced_pictures").get<int64_t>();
  EXPECT_EQ(count, 16);  // 4 of 40 in each of four epochs, whose batches leave none out
  EXPECT_EQ(read_json_file(folder / "stopped/finished.json").at("replaced_pictures"), count);
  EXPECT_EQ(read_json_file(file("stopped", "state.json")).at("replaced_pictures"), count);
  int64_t before = 0;
  for (const auto& line : read_metrics(folder / "stopped/metrics.jsonl")) {
    if (line.contains("validation")) continue;
    const auto now = line.value("replaced_pictures", int64_t{0});
    EXPECT_GE(now, before);
    before = now;
  }
  EXPECT_EQ(before, count);
  const auto log = read_file(folder / "whole/log.txt");
  for (const char* name : {"train/a/104.png", "train/b/113.png", "val/a/104.png"}) EXPECT_THAT(log, HasSubstr(name));
  EXPECT_THAT(log, HasSubstr("damaged picture: PNG: the file ends early; another picture stands in for it"));
}

TEST(SkipBad, ATokenCacheSaysHowManyPicturesWereBad) {
  const TemporaryDirectory folder;
  auto data = folder_of_pictures(folder / "data");
  Tokenizer tokenizer(testing::tiny_tokenizer_recipe().model);
  auto generator = make_generator(1);
  tokenizer->initialise(generator);
  const auto cache = cache_tokens(tokenizer, open_data(data), data, {}, 0, at::kCPU, at::kFloat);
  ASSERT_TRUE(cache);
  EXPECT_EQ(cache->replaced, 8);  // 4 in each part
  write_token_cache(folder / "tokens.safetensors", *cache);
  EXPECT_EQ(read_token_cache(folder / "tokens.safetensors").replaced, 8);
}

}  // namespace
}  // namespace nextscale
