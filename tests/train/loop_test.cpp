#include "nextscale/train/loop.h"

#include <csignal>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy.h"
#include "nextscale/train/metrics_log.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryDirectory;
using testing::Toy;
using testing::write_file;
using Json = nlohmann::json;

/// One call of the command: opens the run, goes on, closes it.
ExitCode call(const std::filesystem::path& directory, Toy& toy, const LoopOptions& options = {}, int64_t steps = 20,
              const std::function<void(int64_t)>& on_validate = {}) {
  const StopOnSignal stop;
  Run run(directory, "toy", {{"steps", steps}}, {}, "toy");
  return run_loop(run, toy, options, steps, stop, /*quiet=*/true, on_validate);
}

std::string failure_of(const std::filesystem::path& directory, Toy& toy, const LoopOptions& options = {},
                       int64_t steps = 20) {
  try {
    call(directory, toy, options, steps);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::failure);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

std::vector<int64_t> checkpoints(const std::filesystem::path& directory) {
  std::vector<int64_t> steps;
  for (const auto& folder : list_checkpoints(directory / "checkpoints")) steps.push_back(folder.step);
  return steps;
}

::testing::AssertionResult same_end(const Toy& one, const Toy& other) {
  for (const auto& [name, tensor] : state_dict(one.line)) {
    const auto same = all_close(tensor, find_tensor(state_dict(other.line), name));
    if (!same) return ::testing::AssertionFailure() << name << ": " << same.message();
  }
  for (const auto& [name, tensor] : one.ema.weights()) {
    const auto same = all_close(tensor, find_tensor(other.ema.weights(), name));
    if (!same) return ::testing::AssertionFailure() << "EMA of " << name << ": " << same.message();
  }
  return ::testing::AssertionSuccess();
}

/// The toy of a run that was never stopped.
const Toy& never_stopped() {
  static Toy toy;
  static const bool done = [] {
    const TemporaryDirectory folder;
    return call(folder / "run", toy) == ExitCode::done;
  }();
  EXPECT_TRUE(done);
  return toy;
}

TEST(Loop, ARunLeavesCheckpointsMetricsSnapshotAndResult) {
  const TemporaryDirectory folder;
  const auto run = folder / "run";
  Toy toy;
  std::vector<int64_t> told;
  EXPECT_EQ(call(run, toy, {.batch = 4, .save_every = 5, .keep = 0, .validate_every = 8}, 20,
                 [&](int64_t step) { told.push_back(step); }),
            ExitCode::done);
  EXPECT_THAT(checkpoints(run), ElementsAre(5, 10, 15, 20));
  EXPECT_THAT(toy.validated, ElementsAre(8, 16, 20));
  EXPECT_EQ(told, toy.validated);
  EXPECT_TRUE(std::filesystem::exists(run / "snapshots" / "ema_1_16.safetensors"));
  const auto state = Json::parse(read_file(run / "checkpoints" / "step_00000010" / "state.json"));
  EXPECT_EQ(state.at("step"), 10);
  EXPECT_EQ(state.at("steps"), 20);
  EXPECT_EQ(state.at("kind"), "toy");
  EXPECT_THAT(state.at("versions").get<std::string>(), HasSubstr("LibTorch"));
  const auto result = Json::parse(read_file(run / "finished.json"));
  EXPECT_EQ(result.at("step"), 20);
  EXPECT_EQ(result.at("validation").at("loss"), 0.5);
  const auto lines = read_metrics(run / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 23U);  // every step of a run this short, and three validations
  EXPECT_EQ(lines.front().at("step"), 1);
  EXPECT_EQ(lines.back().at("validation").at("loss"), 0.5);
  for (const auto* key : {"loss", "lr", "grad_norm", "pictures_per_s", "extra"}) {
    EXPECT_TRUE(lines.front().at(key).is_number()) << key;
  }
  EXPECT_EQ(result.at("loss"), lines[lines.size() - 2].at("loss"));
}

TEST(Loop, LongRunsReportEveryTenthStepAndSaveATenth) {
  const TemporaryDirectory folder;
  Toy toy;
  call(folder / "run", toy, {.keep = 0}, 1000);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(100, 200, 300, 400, 500, 600, 700, 800, 900, 1000));
  int64_t reports = 0;
  for (const auto& line : read_metrics(folder / "run" / "metrics.jsonl")) reports += line.contains("loss") ? 1 : 0;
  EXPECT_EQ(reports, 101);  // 100 and the one before the snapshot
}

TEST(Loop, StoppedAndContinuedEndsBitForBitLikeNeverStopped) {
  const TemporaryDirectory folder;
  Toy first;
  EXPECT_EQ(call(folder / "run", first, {.max_steps = 7}), ExitCode::done);
  EXPECT_THAT(first.steps, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "finished.json"));
  EXPECT_THAT(read_file(folder / "run" / "log.txt"),
              HasSubstr("stopped early at step 7 of 20; the same command goes on"));
  Toy second;
  EXPECT_EQ(call(folder / "run", second, {.max_steps = 6}), ExitCode::done);
  EXPECT_EQ(second.steps.front(), 7);
  Toy third;
  EXPECT_EQ(call(folder / "run", third), ExitCode::done);
  EXPECT_EQ(third.steps.front(), 13);
  EXPECT_TRUE(std::filesystem::exists(folder / "run" / "finished.json"));
  EXPECT_TRUE(same_end(third, never_stopped()));
}

TEST(Loop, ARunThatForgetsItsGeneratorEndsElsewhere) {
  const TemporaryDirectory folder;
  Toy first;
  call(folder / "run", first, {.max_steps = 7});
  Toy second;
  second.forgets_generator = true;
  call(folder / "run", second);
  EXPECT_FALSE(same_end(second, never_stopped())) << "the control of the test above must differ";
}

TEST(Loop, ASignalEndsAfterTheRunningStepWithEverythingSaved) {
  const std::vector<std::pair<int, ExitCode>> signals = {{SIGINT, ExitCode::interrupted},
                                                         {SIGTERM, ExitCode::terminated}};
  for (const auto& [number, code] : signals) {
    const TemporaryDirectory folder;
    Toy first;
    first.before_step = [number = number](int64_t step) {
      if (step == 6) std::raise(number);
    };
    EXPECT_EQ(call(folder / "run", first, {.save_every = 100}), code);
    EXPECT_EQ(first.steps.back(), 6);
    EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(7));
    Toy second;
    EXPECT_EQ(call(folder / "run", second), ExitCode::done);
    EXPECT_TRUE(same_end(second, never_stopped()));
  }
}

TEST(Loop, ASignalInAStepThatIsNotLookedAtTakesOneMoreThatIs) {
  const TemporaryDirectory folder;
  Toy toy;
  toy.before_step = [](int64_t step) {
    if (step == 12) std::raise(SIGTERM);
  };
  EXPECT_EQ(call(folder / "run", toy, {}, 1000), ExitCode::terminated);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(14));
  EXPECT_EQ(read_metrics(folder / "run" / "metrics.jsonl").back().at("step"), 14);
}

TEST(Loop, ASignalDuringValidationEndsAtTheCheckpointBeforeIt) {
  const TemporaryDirectory folder;
  Toy toy;
  EXPECT_EQ(call(folder / "run", toy, {.save_every = 4, .validate_every = 4}, 20, [](int64_t) { std::raise(SIGINT); }),
            ExitCode::interrupted);
  EXPECT_EQ(toy.steps.size(), 4U);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(4));
}

TEST(Loop, ASignalInTheLastStepLeavesTheValidationToTheNextCall) {
  const TemporaryDirectory folder;
  Toy first;
  first.before_step = [](int64_t step) {
    if (step == 19) std::raise(SIGTERM);
  };
  EXPECT_EQ(call(folder / "run", first, {.validate_every = 100}), ExitCode::terminated);
  EXPECT_TRUE(first.validated.empty());
  Toy second;
  EXPECT_EQ(call(folder / "run", second, {.validate_every = 100}), ExitCode::done);
  EXPECT_TRUE(second.steps.empty());
  EXPECT_THAT(second.validated, ElementsAre(20));
  EXPECT_TRUE(std::filesystem::exists(folder / "run" / "finished.json"));
}

TEST(Loop, ATimeLimitTakesAtLeastOneStepAndSaves) {
  const TemporaryDirectory folder;
  Toy toy;
  EXPECT_EQ(call(folder / "run", toy, {.max_minutes = 1e-12}), ExitCode::done);
  EXPECT_EQ(toy.steps.size(), 1U);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(1));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "finished.json"));
}

TEST(Loop, ALossThatIsNotANumberNamesStepAndLossAndIsNotSaved) {
  const TemporaryDirectory folder;
  Toy toy;
  toy.broken_from = 12;  // between two reports of a run this long
  EXPECT_THAT(failure_of(folder / "run", toy, {.save_every = 5}, 1000),
              AllOf(HasSubstr("step 15"), HasSubstr("loss is not finite (scales 2x2), learning rate 0.05;"),
                    HasSubstr("that of step 10"), HasSubstr("a lower --lr"), HasSubstr("got nan")));
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(5, 10));
  Toy mended;
  EXPECT_EQ(call(folder / "run", mended, {}, 1000), ExitCode::done);
  EXPECT_EQ(mended.steps.front(), 10);
}

TEST(Loop, AStopRequestDoesNotSaveABrokenModel) {
  const TemporaryDirectory folder;
  Toy toy;
  toy.broken_from = 12;
  toy.before_step = [](int64_t step) {
    if (step == 12) std::raise(SIGTERM);
  };
  EXPECT_THAT(failure_of(folder / "run", toy, {}, 1000), HasSubstr("loss is not finite"));
  EXPECT_TRUE(checkpoints(folder / "run").empty());
}

TEST(Loop, KeepsTheLastCheckpoints) {
  const TemporaryDirectory folder;
  Toy toy;
  call(folder / "run", toy, {.save_every = 3, .keep = 2});
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(18, 20));
}

TEST(Loop, ACrashBetweenOrDuringSavesLosesOnlyTheStepsSince) {
  const TemporaryDirectory folder;
  Toy first;
  first.before_step = [](int64_t step) {
    if (step == 9) throw std::runtime_error("power loss");
  };
  EXPECT_THROW(call(folder / "run", first, {.save_every = 4}), std::runtime_error);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(4, 8));
  Toy second;
  second.before_save = [] { throw std::runtime_error("power loss"); };
  EXPECT_THROW(call(folder / "run", second, {.save_every = 4}), std::runtime_error);
  EXPECT_THAT(checkpoints(folder / "run"), ElementsAre(4, 8));
  // What a writer that was killed before its rename leaves.
  const auto part = folder / "run" / "checkpoints" / ".step_00000012.part";
  std::filesystem::create_directories(part);
  write_file(part / "model.safetensors", "half");
  Toy third;
  EXPECT_EQ(call(folder / "run", third, {.save_every = 4}), ExitCode::done);
  EXPECT_EQ(third.steps.front(), 8);
  EXPECT_FALSE(std::filesystem::exists(part));
  EXPECT_TRUE(same_end(third, never_stopped()));
}

TEST(Loop, ADamagedNewestCheckpointIsNamedAndNothingIsTrained) {
  const TemporaryDirectory folder;
  const auto run = folder / "run";
  {
    Toy toy;
    call(run, toy, {.max_steps = 6, .save_every = 3});
  }
  const auto newest = run / "checkpoints" / "step_00000006";
  const auto damage = [&](const std::string& name, const std::string& bytes) {
    const auto whole = read_file(newest / name);
    write_file(newest / name, bytes);
    Toy toy;
    EXPECT_THAT(failure_of(run, toy), AllOf(HasSubstr(newest.string()), HasSubstr("cannot be read")))
        << name << " " << bytes;
    EXPECT_TRUE(toy.steps.empty());
    write_file(newest / name, whole);
  };
  for (const auto* name : {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "generators.safetensors"}) {
    const auto whole = read_file(newest / name);
    damage(name, whole.substr(0, whole.size() / 2));
    damage(name, "");
  }
  for (const auto* state : {"", "{", "[]", R"({"step": 6})", R"({"step": 5, "kind": "toy"})",
                            R"({"step": 6, "kind": "tokenizer"})", R"({"step": "6", "kind": "toy"})"}) {
    damage("state.json", state);
  }
  std::filesystem::remove_all(newest);
  Toy toy;
  EXPECT_EQ(call(run, toy), ExitCode::done) << "without the damaged folder it goes on from the one before";
  ASSERT_FALSE(toy.steps.empty());
  EXPECT_EQ(toy.steps.front(), 3);
  EXPECT_TRUE(same_end(toy, never_stopped()));
}

TEST(Loop, TheSnapshotIsTakenAtASixteenthAndNotAgain) {
  const TemporaryDirectory folder;
  Toy first;
  call(folder / "run", first, {.max_steps = 9}, 64);
  EXPECT_EQ(first.snapshots, 1);
  const auto path = folder / "run" / "snapshots" / "ema_1_16.safetensors";
  const auto snapshot = read_file(path);
  Toy four;
  call(folder / "four", four, {.max_steps = 4}, 64);
  EXPECT_TRUE(all_close(find_tensor(read_weights(path).tensors, "weight"), find_tensor(four.ema.weights(), "weight")));
  Toy second;
  call(folder / "run", second, {}, 64);
  EXPECT_EQ(second.snapshots, 0);
  EXPECT_EQ(read_file(path), snapshot);
}

TEST(Loop, TooLittleDiskIsSaidBeforeTheFirstStep) {
  const TemporaryDirectory folder;
  Toy toy;
  toy.bytes = uint64_t{1} << 59;
  EXPECT_THAT(failure_of(folder / "run", toy), HasSubstr("disk"));
  EXPECT_TRUE(toy.steps.empty());
}

TEST(Loop, AScheduleWithoutStepsIsAnErrorOfUsage) {
  const TemporaryDirectory folder;
  Toy toy;
  try {
    call(folder / "run", toy, {}, 0);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
  }
}

}  // namespace
}  // namespace nextscale
