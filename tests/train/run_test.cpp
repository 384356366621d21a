#include "nextscale/train/run.h"

#include <array>
#include <csignal>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/train/metrics_log.h"

namespace nextscale {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::read_file;
using testing::TemporaryDirectory;
using testing::write_file;
using Json = nlohmann::json;
using TrainingRun = Run;  // gtest's Test::Run hides the name inside tests

const Json kConfig = {{"depth", 4}, {"lr", 0.001}, {"data", {{"hflip", false}, {"crop", "random"}}}, {"threads", 2}};

void open_run(const std::filesystem::path& directory, const Json& config = kConfig,
              const std::string& kind = "transformer") {
  const TrainingRun run(directory, kind, config, {"threads"}, "nextscale train");
}

TEST(Run, ExplainsItselfByFiles) {
  const TemporaryDirectory folder;
  const auto directory = folder / "deep" / "run";
  {
    TrainingRun run(directory, "transformer", kConfig, {}, "nextscale train --run 'deep/run'");
    run.log_text("hello");
    run.log_metrics({{"step", 1}, {"loss", 2.5}});
    for (const auto& path : {run.checkpoints(), run.pictures(), run.snapshots()}) {
      EXPECT_TRUE(std::filesystem::is_directory(path)) << path;
    }
    EXPECT_THAT(read_file(directory / "lock"), HasSubstr("pid " + std::to_string(getpid()) + " on "));
  }
  const auto stored = Json::parse(read_file(directory / "config.json"));
  EXPECT_EQ(stored.at("kind"), "transformer");
  EXPECT_EQ(stored.at("config"), kConfig);
  EXPECT_THAT(stored.at("versions").get<std::string>(), AllOf(HasSubstr("nextscale "), HasSubstr("LibTorch ")));
  EXPECT_THAT(read_file(directory / "log.txt"), HasSubstr("  hello\n"));
  EXPECT_EQ(read_file(directory / "metrics.jsonl"), "{\"loss\":2.5,\"step\":1}\n");
  open_run(directory);
  EXPECT_EQ(read_file(directory / "command.txt"), "nextscale train --run 'deep/run'\nnextscale train\n");
}

TEST(Run, ASecondProcessIsRefusedWithPidAndHostAndTheLockEndsWithItsHolder) {
  const TemporaryDirectory folder;
  std::array<int, 2> ready{};
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      const TrainingRun run(folder / "run", "transformer", kConfig, {}, "first");
      if (write(ready[1], "x", 1) == 1) pause();
    } catch (const std::exception&) {
    }
    _exit(1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  std::array<char, 256> host{};
  ASSERT_EQ(gethostname(host.data(), host.size() - 1), 0);
  EXPECT_THAT(message_of([&] { open_run(folder / "run"); }),
              AllOf(HasSubstr("another process"), HasSubstr("pid " + std::to_string(child) + " on " + host.data())));
  EXPECT_EQ(read_file(folder / "run" / "command.txt"), "first\n") << "a refused process writes nothing";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  open_run(folder / "run");
  close(ready[0]);
  close(ready[1]);
}

TEST(Run, AnotherConfigIsRefusedWithKeyStoredAndGivenValue) {
  const TemporaryDirectory folder;
  const auto directory = folder / "run";
  open_run(directory);
  const auto refused = [&](const std::function<void(Json&)>& change) {
    Json other = kConfig;
    change(other);
    return message_of([&] { open_run(directory, other); });
  };
  EXPECT_THAT(refused([](Json& c) { c["lr"] = 0.002; }),
              AllOf(HasSubstr("config.json: lr: "), HasSubstr("expected 0.001, got 0.002")));
  EXPECT_THAT(refused([](Json& c) { c["data"]["hflip"] = true; }),
              AllOf(HasSubstr("data.hflip: "), HasSubstr("expected false, got true")));
  EXPECT_THAT(refused([](Json& c) { c["new"] = 1; }), HasSubstr("expected nothing, got 1"));
  EXPECT_THAT(refused([](Json& c) { c.erase("depth"); }), HasSubstr("expected 4, got nothing"));
  EXPECT_EQ(refused([](Json& c) { c["threads"] = 8; }), "no error");
  EXPECT_EQ(refused([](Json& c) { c["depth"] = 4.0; }), "no error") << "4 and 4.0 are one value";
}

TEST(Run, WhatMayDifferIsTakenOverAndTold) {
  const TemporaryDirectory folder;
  const auto told = [&](const Json& threads) {
    Json config = kConfig;
    config["threads"] = threads;
    return TrainingRun(folder / "run", "transformer", config, {"threads"}, "nextscale train").taken_over();
  };
  EXPECT_THAT(told(2), IsEmpty());
  EXPECT_THAT(told(8), ElementsAre("threads: 2 -> 8"));
  EXPECT_THAT(told(8), IsEmpty()) << "the last call's value is the one to differ from";
  EXPECT_THAT(told({{"cores", 4}}), ElementsAre(R"(threads: 8 -> {"cores":4})"));
  EXPECT_THAT(told({{"cores", 4}, {"device", "cpu"}}), ElementsAre(R"(device: null -> "cpu")"));
  EXPECT_EQ(Json::parse(read_file(folder / "run/config.json")).at("config").at("depth"), 4);
}

TEST(Run, AnotherKindIsRefused) {
  const TemporaryDirectory folder;
  open_run(folder / "run");
  EXPECT_THAT(message_of([&] { open_run(folder / "run", kConfig, "tokenizer"); }),
              AllOf(HasSubstr("another kind"), HasSubstr("expected tokenizer, got transformer")));
}

TEST(Run, ADamagedConfigIsNamed) {
  const TemporaryDirectory folder;
  open_run(folder / "run");
  const auto path = folder / "run" / "config.json";
  const std::string whole = read_file(path);
  for (const std::string& bytes : {std::string(), std::string("[]"), std::string("{}"),
                                   whole.substr(0, whole.size() / 2), std::string("{\"kind\": 3, \"config\": {}}")}) {
    write_file(path, bytes);
    EXPECT_THAT(message_of([&] { open_run(folder / "run"); }), AllOf(HasSubstr("config.json"), HasSubstr("damaged")))
        << bytes;
  }
  write_file(path, whole);
  open_run(folder / "run");  // the lock was given back each time
}

TEST(Run, WhatAKilledCallLeftHalfWrittenIsRemoved) {
  const TemporaryDirectory folder;
  open_run(folder / "run");
  const auto run = folder / "run";
  const std::vector<std::string> leftovers = {".config.json.17.part", "checkpoints/.latest.17.part",
                                              "pictures/.step_1.png.17.part", "snapshots/.ema.safetensors.17.part"};
  const std::vector<std::string> others = {"mine.part", ".hidden", "pictures/.part.png"};
  for (const auto& name : leftovers) write_file(run / name, "half");
  for (const auto& name : others) write_file(run / name, "whole");
  open_run(run);
  for (const auto& name : leftovers) EXPECT_FALSE(std::filesystem::exists(run / name)) << name;
  for (const auto& name : others) EXPECT_TRUE(std::filesystem::exists(run / name)) << name;
}

TEST(Run, APlaceWhereNoFolderCanBeMadeIsNamed) {
  const TemporaryDirectory folder;
  write_file(folder / "file", "");
  EXPECT_THAT(message_of([&] { open_run(folder / "file"); }), HasSubstr("file: no folder can be made here"));
  EXPECT_THAT(message_of([&] { open_run(folder / "file" / "run"); }), HasSubstr("run: no folder can be made here"));
}

TEST(Run, AFullDiskIsNamed) {
  const TemporaryDirectory folder;
  TrainingRun run(folder / "run", "transformer", kConfig, {}, "command");
  std::filesystem::create_symlink("/dev/full", run.metrics());
  EXPECT_THAT(message_of([&] { run.log_metrics({{"step", 1}}); }),
              AllOf(HasSubstr("metrics.jsonl"), HasSubstr("No space")));
}

TEST(Run, FinishedIsAFileThatIsCompleteOrNotThere) {
  const TemporaryDirectory folder;
  {
    TrainingRun run(folder / "run", "transformer", kConfig, {}, "command");
    EXPECT_FALSE(run.finished());
    EXPECT_FALSE(run.result().has_value());
    run.mark_finished({{"step", 10}, {"loss", 1.5}});
    EXPECT_TRUE(run.finished());
    EXPECT_EQ(run.result()->at("step"), 10);
    EXPECT_TRUE(run.result()->contains("time"));
  }
  write_file(folder / "run" / "finished.json", "{\"step\": ");
  const TrainingRun again(folder / "run", "transformer", kConfig, {}, "command");
  EXPECT_THAT(message_of([&] { again.result(); }), HasSubstr("finished.json: damaged"));
}

TEST(MetricsLog, ATornLastLineSpoilsNothingButItself) {
  const TemporaryDirectory folder;
  const auto path = folder / "metrics.jsonl";
  write_file(path, "{\"step\":1,\"loss\":3}\n{\"step\":2,\"lo");
  append_line(path, R"({"step":2,"loss":2})");
  append_line(path, R"({"step":3,"loss":1})");
  EXPECT_EQ(read_file(path),
            "{\"step\":1,\"loss\":3}\n{\"step\":2,\"lo\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":1}\n");
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(lines[i].at("loss"), 3 - static_cast<int>(i));
}

TEST(MetricsLog, OfAStepThatWasDoneTwiceTheLaterLineHolds) {
  const TemporaryDirectory folder;
  const auto path = folder / "metrics.jsonl";
  EXPECT_TRUE(read_metrics(path).empty());
  for (const auto* line :
       {R"({"step":10,"loss":5})", R"({"step":20,"loss":4})", R"({"step":20,"validation":{"loss":9}})",
        R"({"step":20,"loss":3})", "no json", R"({"loss":1})"}) {
    append_line(path, line);
  }
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].at("loss"), 5);
  EXPECT_EQ(lines[1].at("loss"), 3);
  EXPECT_EQ(lines[2].at("validation").at("loss"), 9);
}

}  // namespace
}  // namespace nextscale
