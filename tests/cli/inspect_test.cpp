#include <cmath>
#include <string>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/io/checkpoint.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A run as the trainers leave it, small.
void write_run(const std::filesystem::path& run) {
  for (const int64_t step : {20, 40}) {
    CheckpointWriter checkpoint(run / "checkpoints", step);
    for (const char* name : {"model", "ema"}) {
      write_weights(checkpoint.file(std::string(name) + ".safetensors"),
                    {{{"encoder.weight", at::full({2, 3}, 1.5)}, {"hits", at::zeros({4}, at::kLong)}},
                     {{"format", "nextscale.tokenizer"}, {"config", R"({"ch": 32, "sides": [1, 2]})"}}});
    }
    write_weights(checkpoint.file("optimizer.safetensors"),
                  {{{"step", at::ones({1})}}, {{"format", "nextscale.optimizer"}}});
    write_file(checkpoint.file("state.json"), R"({"step": )" + std::to_string(step) + R"(, "steps": 60})");
    checkpoint.commit();
  }
  write_file(run / "config.json", R"({"kind": "tokenizer", "config": {"lr": 0.001}})");
}

nlohmann::json inspected(const std::vector<std::string>& words) {
  const auto result = run_nextscale(words);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return nlohmann::json::parse(result.out);
}

TEST(Inspect, ARunIsDescribedByItsNewestCheckpoint) {
  const TemporaryDirectory folder;
  write_run(folder / "run");
  const auto run = (folder / "run").string();
  const auto found = inspected({"inspect", run, "--json"});
  EXPECT_EQ(found.at("kind"), "tokenizer");
  EXPECT_EQ(found.at("source"), "run");
  EXPECT_EQ(found.at("path"), run);
  EXPECT_EQ(found.at("weights"), "ema");
  EXPECT_EQ(found.at("step"), 40);
  EXPECT_EQ(found.at("steps"), 60);
  EXPECT_EQ(found.at("finished"), false);
  EXPECT_EQ(found.at("parameters"), 6);
  EXPECT_EQ(found.at("config").at("sides"), nlohmann::json({1, 2}));
  EXPECT_EQ(found.at("tensors").at(1), nlohmann::json({{"name", "hits"}, {"dtype", "int64"}, {"shape", {4}}}));
  EXPECT_EQ(found.at("checkpoints"), nlohmann::json({20, 40}));
  EXPECT_EQ(found.at("run").at("config").at("lr"), 0.001);
  int64_t bytes = 0;
  for (const auto& file : found.at("files")) bytes += file.at("bytes").get<int64_t>();
  EXPECT_EQ(found.at("files").size(), 4u);
  EXPECT_EQ(found.at("bytes"), bytes);

  write_file(folder / "run/finished.json", "{}");
  EXPECT_EQ(inspected({"inspect", run, "--json", "--raw"}).at("weights"), "raw");
  const auto text = run_nextscale({"inspect", run}).out;
  EXPECT_THAT(text, StartsWith(run + ": tokenizer, a run, step 40 of 60, EMA weights, finished\n"));
  EXPECT_THAT(text, HasSubstr("  encoder.weight  float32   (2, 3)\n"));
}

TEST(Inspect, AnySafetensorsFileIsDescribed) {
  const TemporaryDirectory folder;
  const auto path = folder / "foreign.safetensors";
  write_weights(path, {{{"w", at::tensor({1.0F, NAN})}, {"b", at::ones({2}, at::kBFloat16)}}, {{"config", "no JSON"}}});
  const auto found = inspected({"inspect", "--json", path.string()});
  EXPECT_EQ(found.at("kind"), "weights");
  EXPECT_EQ(found.at("source"), "file");
  EXPECT_EQ(found.at("step"), nullptr);
  EXPECT_EQ(found.at("config"), "no JSON");
  EXPECT_EQ(found.at("parameters"), 4);
  EXPECT_EQ(found.at("not_finite"), nlohmann::json({"w"}));
  EXPECT_EQ(found.at("bytes"), std::filesystem::file_size(path));
  EXPECT_THAT(run_nextscale({"inspect", path.string()}).out, HasSubstr("NaN or infinity in w\n"));
}

TEST(Inspect, DamageInAnyFileOfARunIsOneLineAndExitCodeOne) {
  const TemporaryDirectory folder;
  for (const char* name : {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"}) {
    SCOPED_TRACE(name);
    const auto run = folder / name;
    write_run(run);
    const auto file = run / "checkpoints/step_00000040" / name;
    const auto bytes = read_file(file);
    write_file(file, bytes.substr(0, bytes.size() - 4));
    const auto result = run_nextscale({"inspect", run.string()});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    ASSERT_EQ(result.error_lines().size(), 1u) << result.err;
    EXPECT_THAT(result.err, HasSubstr(name));
  }
  for (const char* name : {"", "no/such/file"}) {
    const auto result = run_nextscale({"inspect", (folder / name).string()});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.error_lines().size(), 1u);
  }
}

TEST(Inspect, ATokenCacheWithoutItsPartsIsRefused) {
  const TemporaryDirectory folder;
  const auto path = (folder / "tokens.safetensors").string();
  write_weights(path, {{{"train.tokens", at::zeros({1, 5}, at::kInt)}}, {{"format", "nextscale.tokens"}}});
  EXPECT_EQ(run_nextscale({"inspect", path}).code, 1);
}

}  // namespace
}  // namespace nextscale::testing
