#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/cli/tiny_model.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

/// A tiny model of random weights with five classes, made once for all tests.
class SampleCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    save_tiny_tokenizer(tokenizer_file());
    save_tiny_transformer(model_file());
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static std::filesystem::path tokenizer_file() { return *folder_ / "tokenizer.safetensors"; }
  static std::filesystem::path model_file() { return *folder_ / "model.safetensors"; }

  /// `sample` with the tiny model into `out`, and further words.
  ProgramResult sample(const Words& further) const {
    Words words{"sample", "--model", model_file(), "--tokenizer", tokenizer_file(), "--out", out().string(), "--quiet"};
    words.insert(words.end(), further.begin(), further.end());
    return run_nextscale(words);
  }
  void expect_refused(const Words& further, int code, const std::string& part) const {
    const auto result = sample(further);
    EXPECT_EQ(result.code, code) << part;
    EXPECT_EQ(result.out, "");
    ASSERT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, StartsWith("nextscale: "));
    EXPECT_THAT(result.err, HasSubstr(part));
  }
  std::filesystem::path out() const { return own_ / "pictures"; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(out())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  at::Tensor tokens_of(const Words& further) const {
    const auto file = own_ / "tokens.safetensors";
    auto words = further;
    words.insert(words.end(), {"--tokens-out", file.string()});
    const auto result = sample(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return find_tensor(read_weights(file).tensors, "tokens").clone();
  }

  TemporaryDirectory own_;
  static TemporaryDirectory* folder_;
};
TemporaryDirectory* SampleCommand::folder_ = nullptr;

TEST_F(SampleCommand, WritesPicturesGridStripAndTokens) {
  const auto grid = own_ / "deep/grid.png";
  const auto strip = own_ / "strip.png";
  const auto tokens = own_ / "tokens.safetensors";
  const auto result = sample({"--labels", "0,0,-1,4", "--grid", grid.string(), "--scales-strip", strip.string(),
                              "--tokens-out", tokens.string()});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, StartsWith("4 pictures in " + out().string()));
  EXPECT_THAT(names(),
              ElementsAre("000000_class000.png", "000001_class000.png", "000002_nolabel.png", "000003_class004.png"));
  EXPECT_EQ(read_picture(out() / "000003_class004.png", 3).sizes(), (std::vector<int64_t>{6, 6, 3}));
  EXPECT_EQ(read_picture(grid, 3).size(0), 3 * (66 + 4) + 4) << "three rows: no label, 0 and 4";
  EXPECT_GT(read_picture(strip, 3).size(1), 3 * (66 + 4)) << "three scales";
  const auto file = read_weights(tokens);
  EXPECT_EQ(find_tensor(file.tensors, "tokens").sizes(), (std::vector<int64_t>{4, 14}));
  EXPECT_EQ(find_tensor(file.tensors, "tokens").scalar_type(), at::kLong);
  EXPECT_TRUE(all_close(find_tensor(file.tensors, "labels"), at::tensor({0, 0, -1, 4})));
}

TEST_F(SampleCommand, PicturesAreTheTokensDecodedAndRoundedToNearest) {
  const auto tokens = tokens_of({"--labels", "1"});
  const at::NoGradGuard no_grad;
  auto tokenizer = load_tokenizer(tokenizer_file());
  const auto exact = (tokenizer->decode(tokens) + 1) * 127.5;  // (1, 3, 6, 6)
  const auto written = read_picture(out() / "000000_class001.png", 3).permute({2, 0, 1}).unsqueeze(0);
  EXPECT_TRUE(all_close(written, exact, {.absolute = 0.501}));
}

TEST_F(SampleCommand, LabelsAreOneBatchWhateverTheBatchSize) {
  EXPECT_TRUE(all_close(tokens_of({"--labels", "0,1,2", "--batch", "1"}), tokens_of({"--labels", "0,1,2"})));
  EXPECT_TRUE(all_close(tokens_of({"--random-labels", "3", "--batch", "1"}), tokens_of({"--random-labels", "3"})));
  EXPECT_FALSE(all_close(tokens_of({"--labels", "0,1,2", "--seed", "1"}), tokens_of({"--labels", "0,1,2"})));
}

TEST_F(SampleCommand, BatchIOfClassesHasTheSeedPlusI) {
  const auto all = tokens_of({"--classes", "1-2", "--per-class", "2", "--batch", "2", "--seed", "5"});
  EXPECT_THAT(names(),
              ElementsAre("000000_class001.png", "000001_class001.png", "000002_class002.png", "000003_class002.png"));
  EXPECT_TRUE(all_close(all.narrow(0, 0, 2), tokens_of({"--labels", "1,1", "--seed", "5"})));
  EXPECT_TRUE(all_close(all.narrow(0, 2, 2), tokens_of({"--labels", "2,2", "--seed", "6"})));
}

TEST_F(SampleCommand, MakesRandomLabelsWhenNothingIsAskedForAndAllClassesForPerClass) {
  EXPECT_THAT(sample({}).out, StartsWith("8 pictures"));
  EXPECT_THAT(sample({"--per-class", "2"}).out, StartsWith("10 pictures"));
}

TEST_F(SampleCommand, WrongOptionsAreOneLineAndExitCodeTwo) {
  expect_refused({"--labels", "0,5"}, 2, "--labels: out of range: expected -1 to 4");
  expect_refused({"--classes", "3-9"}, 2, "--classes: out of range: expected -1 to 4");
  expect_refused({"--classes", "x"}, 2, "--classes: cannot be parsed");
  expect_refused({"--labels", ""}, 2, "--labels");
  expect_refused({"--labels", "0", "--random-labels", "3"}, 2, "exclude each other");
  expect_refused({"--labels", "0", "--classes", "0"}, 2, "exclude each other");
  expect_refused({"--random-labels", "2", "--per-class", "2"}, 2, "exclude each other");
  expect_refused({"--random-labels", "0"}, 2, "--random-labels: out of range");
  expect_refused({"--top-p", "1.5"}, 2, "--top-p: out of range");
  expect_refused({"--graphs", "--device", "cpu"}, 2,
                 "--graphs: cannot be recorded here: expected a GPU (--device cuda) and a build with CUDA graphs, got "
                 "--device cpu");
  expect_refused({"--draws", "gpu"}, 2, "--draws");
  expect_refused({"--cfg", "-1"}, 2, "--cfg: out of range");
  EXPECT_FALSE(std::filesystem::exists(out())) << "nothing may be made for a wrong option";
}

TEST_F(SampleCommand, FilesThatCannotBeUsedAreOneLineAndExitCodeOne) {
  const auto other = own_ / "other.safetensors";
  save_tiny_transformer(other, {1, 2, 4}, 20);
  const auto with_model = [&](const std::string& model) {
    return run_nextscale({"sample", "--model", model, "--tokenizer", tokenizer_file(), "--out", out(), "--quiet"});
  };
  const auto expect_failure = [](const ProgramResult& result, const std::string& part) {
    EXPECT_EQ(result.code, 1);
    ASSERT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, HasSubstr(part));
  };
  expect_failure(with_model(other), "sides of the token maps: expected 1,2,3 as the tokenizer has, got 1,2,4");
  save_tiny_transformer(other, {1, 2, 3}, 30);
  expect_failure(with_model(other), "expected 20 as the tokenizer has, got 30 of the model");
  expect_failure(with_model(own_ / "missing.safetensors"), "missing.safetensors");
  expect_failure(with_model(tokenizer_file()), "tokenizer.safetensors");
  write_file(other, "not a model");
  expect_failure(with_model(other), "other.safetensors");
  write_file(own_ / "a_file", "");
  const auto taken = run_nextscale(
      {"sample", "--model", model_file(), "--tokenizer", tokenizer_file(), "--out", own_ / "a_file", "--quiet"});
  expect_failure(taken, "a_file");
}

TEST_F(SampleCommand, OnTheProcessorFloat32IsTheDefaultAndBfloat16DrawsAlmostTheSame) {
  const Words labels{"--classes", "0-4", "--per-class", "20"};
  const auto with = [&](const std::string& dtype) {
    auto words = labels;
    words.insert(words.end(), {"--dtype", dtype});
    return tokens_of(words);
  };
  const auto exact = tokens_of(labels), rounded = with("bfloat16");
  EXPECT_TRUE(at::equal(with("float32"), exact));
  EXPECT_TRUE(at::equal(with("auto"), exact));
  const auto equal = rounded.eq(exact).to(at::kFloat).mean().item<double>();
  EXPECT_LT(equal, 1) << "bfloat16 had no effect";
  EXPECT_GT(equal, 0.8);
}

TEST_F(SampleCommand, ATraceHoldsTheOperatorsThatRan) {
  const auto trace = own_ / "trace.json";
  const auto traced = sample({"--labels", "1", "--trace", trace.string()});
  ASSERT_EQ(traced.code, 0);
  EXPECT_EQ(traced.err, "");
  const auto text = read_file(trace);
  EXPECT_THAT(text, HasSubstr("traceEvents"));
  EXPECT_THAT(text, HasSubstr("aten::linear"));
  expect_refused({"--labels", "1", "--trace", (own_ / "no/trace.json").string()}, 1,
                 "no/trace.json: cannot be written");
}

TEST_F(SampleCommand, AnInterruptEndsAfterTheRunningBatchWithCompletePictures) {
  const auto tokens = own_ / "tokens.safetensors";
  RunningProgram program({"sample", "--model", model_file(), "--tokenizer", tokenizer_file(), "--out", out().string(),
                          "--classes", "0", "--per-class", "500000", "--batch", "4", "--tokens-out", tokens.string()});
  ASSERT_TRUE(program.wait_for_file(out() / "000000_class000.png"));
  program.send(SIGINT);
  const auto result = program.wait();
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.out, StartsWith("stopped: "));
  const auto made = names();
  EXPECT_EQ(made.size() % 4, 0U);
  for (const auto& name : made) EXPECT_EQ(read_picture(out() / name, 3).size(0), 6) << name;
  EXPECT_EQ(find_tensor(read_weights(tokens).tensors, "tokens").size(0), static_cast<int64_t>(made.size()));
}

}  // namespace
}  // namespace nextscale::testing
