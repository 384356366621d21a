#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/stop.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy.h"
#include "nextscale/train/metrics_log.h"

namespace nextscale {
namespace {

using testing::FailingFiles;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using testing::Toy;

constexpr int64_t kSteps = 4;

/// @returns what it complained of; empty if it ended well
std::string call(const std::filesystem::path& directory, Toy& toy, FileOperations& files) {
  const StopOnSignal stop;
  LoopOptions options;
  options.save_every = 2;
  options.keep = 1;
  try {
    Run run(directory, "toy", {{"steps", kSteps}}, {}, "toy", files);
    run_loop(run, toy, options, kSteps, stop, /*quiet=*/true);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::failure);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

/// By step. Validations are left out: a run that stops between a checkpoint and its validation does not catch up on it.
std::map<int64_t, double> losses(const std::filesystem::path& run) {
  std::map<int64_t, double> losses;
  for (const auto& line : read_metrics(run / "metrics.jsonl")) {
    if (line.contains("loss")) losses[line.at("step")] = line.at("loss");
  }
  return losses;
}

TEST(DiskFailure, AtAnyOperationLeavesARunThatGoesOnToTheSameEnd) {
  FailingFiles whole_disk(1 << 30, false);
  const TemporaryDirectory expected_folder;
  Toy expected;
  ASSERT_EQ(call(expected_folder / "run", expected, whole_disk), "");
  const int operations = whole_disk.calls;
  EXPECT_GE(operations, 100);
  for (const bool crash : {false, true}) {
    for (int fail_at = 0; fail_at < operations; ++fail_at) {
      const TemporaryDirectory folder;
      FailingFiles files(fail_at, crash);
      Toy stopped;
      const auto message = call(folder / "run", stopped, files);
      SCOPED_TRACE("operation " + std::to_string(fail_at) + ": " + message);
      // removing what is no longer needed may fail silently; everything else is one line that names a file of the run
      if (!message.empty()) {
        EXPECT_THAT(message, HasSubstr((folder / "run").string()));
        EXPECT_THAT(message, HasSubstr("No space left on device"));
      }
      FailingFiles good(1 << 30, false);
      Toy again;
      ASSERT_EQ(call(folder / "run", again, good), "");
      for (const auto& [name, tensor] : state_dict(again.line)) {
        EXPECT_TRUE(testing::all_close(tensor, find_tensor(state_dict(expected.line), name))) << name;
      }
      for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
        EXPECT_NE(entry.path().extension(), ".part") << entry.path();
      }
      EXPECT_EQ(losses(folder / "run"), losses(expected_folder / "run"));
    }
  }
}

TEST(DiskFailure, ALineThatCannotBeWrittenSpoilsNothingButItself) {
  for (int fail_at = 0;; ++fail_at) {
    const TemporaryDirectory folder;
    const auto path = folder / "metrics.jsonl";
    append_line(path, R"({"step": 1})");
    FailingFiles files(fail_at, false);
    std::string message;
    try {
      append_line(path, R"({"step": 2})", files);
    } catch (const Error& error) {
      message = error.what();
    }
    if (files.calls <= fail_at) {
      EXPECT_GE(fail_at, 3);  // open, write, close
      break;
    }
    EXPECT_THAT(message, HasSubstr("metrics.jsonl: cannot be written: No space left on device"));
    append_line(path, R"({"step": 3})");
    const auto lines = read_metrics(path);
    ASSERT_GE(lines.size(), 2u);
    EXPECT_EQ(lines.front().at("step"), 1);
    EXPECT_EQ(lines.back().at("step"), 3);
  }
}

}  // namespace
}  // namespace nextscale
