#include <map>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/stop.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/train/metrics_log.h"

namespace nextscale {
namespace {

using testing::FailingFiles;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryDirectory;
using testing::Toy;

constexpr int64_t kFailingSteps = 4;

/// @returns what it complained of; empty if it ended well
std::string call(const std::filesystem::path& directory, Trainee& trainee, FileOperations& files) {
  const StopOnSignal stop;
  LoopOptions options;
  options.batch = 8;
  options.save_every = 2;
  options.keep = 1;
  try {
    Run run(directory, "toy", {{"steps", kFailingSteps}}, {}, "toy", files);
    run_loop(run, trainee, options, kFailingSteps, stop, /*quiet=*/true);
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

/// A tokenizer whose adversary is in play from the second step on.
TokenizerTrainer adversarial_trainer() {
  auto recipe = testing::tiny_tokenizer_recipe();
  recipe.adversary = testing::tiny_adversary();
  return {recipe, testing::squares(), testing::one_worker(), kFailingSteps, 3, at::kCPU, at::kFloat};
}

/// Notes which operations write a discriminator's files.
class NotingFiles : public FailingFiles {
 public:
  NotingFiles() : FailingFiles(1 << 30, false) {}
  int open(const std::filesystem::path& path, int flags, mode_t mode) override {
    writes_discriminator_ = path.filename().string().find("discriminator") != std::string::npos;
    note();
    return FailingFiles::open(path, flags, mode);
  }
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    note();
    return FailingFiles::write(descriptor, bytes, count);
  }
  int close(int descriptor) override {
    note();
    writes_discriminator_ = false;
    return FailingFiles::close(descriptor);
  }
  std::vector<int> discriminator_operations;

 private:
  void note() {
    if (writes_discriminator_) discriminator_operations.push_back(calls);
  }
  bool writes_discriminator_ = false;
};

TEST(DiskFailure, WhileADiscriminatorIsSavedLeavesARunThatGoesOnToTheSameEnd) {
  NotingFiles whole_disk;
  const TemporaryDirectory expected_folder;
  auto expected = adversarial_trainer();
  ASSERT_EQ(call(expected_folder / "run", expected, whole_disk), "");
  const auto& operations = whole_disk.discriminator_operations;
  ASSERT_GE(operations.size(), 12u);  // two files in two checkpoints, each opened, written and closed
  constexpr size_t kStride = 7;       // most are tensors of one file: more of the same
  int named = 0;
  for (const bool crash : {false, true}) {
    for (size_t i = 0; i < operations.size(); i += kStride) {
      const int fail_at = operations[i];
      SCOPED_TRACE(fail_at);
      const TemporaryDirectory folder;
      FailingFiles files(fail_at, crash);
      auto stopped = adversarial_trainer();
      const auto message = call(folder / "run", stopped, files);
      if (!message.empty()) {  // a file that is on the disk may fail to close
        EXPECT_THAT(message, HasSubstr((folder / "run").string()));
        EXPECT_THAT(message, HasSubstr("No space left on device"));
      }
      named += message.find("discriminator") != std::string::npos ? 1 : 0;
      FailingFiles good(1 << 30, false);
      auto again = adversarial_trainer();
      ASSERT_EQ(call(folder / "run", again, good), "");
      for (const char* name : {"model.safetensors", "optimizer.safetensors", "discriminator.safetensors",
                               "discriminator_optimizer.safetensors"}) {
        const auto file = std::filesystem::path("run/checkpoints/step_00000004") / name;
        EXPECT_EQ(read_file(folder / file.string()), read_file(expected_folder / file.string())) << name;
      }
    }
  }
  EXPECT_GE(named, static_cast<int>(operations.size() / kStride));  // the others: the files that were written beside it
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
