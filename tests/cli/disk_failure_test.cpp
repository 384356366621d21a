// Whole commands on a disk that fails at operation n, for every n (tests/failing_disk).
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/data/picture.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/tests/cli/tiny_model.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;

using Words = std::vector<std::string>;

constexpr const char* kAbsent = "(absent)";

class FailingDisk : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    save_tiny_tokenizer(tokenizer());
    save_tiny_transformer(model());
    fs::create_directories(pictures());
    for (int i = 0; i < 2; ++i) {
      write_png(fs::path(pictures()) / ("00000" + std::to_string(i) + "_class001.png"),
                at::full({6, 6, 3}, 80 * (i + 1), at::kByte));
    }
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string tokenizer() { return *folder_ / "tokenizer.safetensors"; }
  static std::string model() { return *folder_ / "model.safetensors"; }
  static std::string pictures() { return *folder_ / "pictures"; }
  static std::string out(const std::string& name) { return *folder_ / "out" / name; }

  static ProgramResult run(const Words& words, Words environment) {
    environment.insert(environment.end(),
                       {std::string("LD_PRELOAD=") + NEXTSCALE_FAILING_DISK, "FAILING_DISK_FOLDER=" + out(""),
                        "FAILING_DISK_MARK=" + mark(), "ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0"});
    return run_nextscale(words, environment);
  }
  static std::string mark() { return *folder_ / "mark"; }

  /// @param files       all that the command writes below out(""); those in "new/" are not there before
  /// @param operations  at least so many are tried
  /// @param stride      from the twentieth on: a file of many entries is more of the same
  static void expect_nothing_lost(const Words& words, const std::vector<std::string>& files, int operations,
                                  int stride = 1) {
    begin_anew(files);
    ASSERT_EQ(run_nextscale(words).code, 0);
    const auto whole = contents(files);
    for (int fail_at = 0;; fail_at += fail_at < 20 ? 1 : stride) {
      begin_anew(files);
      const auto before = contents(files);
      const auto result = run(words, {"FAILING_DISK_AT=" + std::to_string(fail_at)});
      SCOPED_TRACE("operation " + std::to_string(fail_at) + ": " + result.err);
      if (!fs::exists(mark())) {
        EXPECT_EQ(result.code, 0);
        EXPECT_GE(fail_at, operations);
        return;
      }
      EXPECT_EQ(result.code, 1);
      EXPECT_EQ(result.error_lines().size(), 1U);
      EXPECT_THAT(result.err, HasSubstr((*folder_ / "out").string()));
      EXPECT_THAT(result.err, HasSubstr("No space left on device"));
      for (const auto& [name, found] : contents(files)) {
        EXPECT_TRUE(found == before.at(name) || found == whole.at(name)) << name;
      }
      for (const auto& entry : fs::recursive_directory_iterator(out(""))) {
        EXPECT_NE(entry.path().extension(), ".part") << entry.path();
      }
      if (HasFailure()) return;
    }
  }

 private:
  static void begin_anew(const std::vector<std::string>& files) {
    fs::remove_all(out(""));
    fs::remove(mark());
    fs::create_directories(out(""));
    for (const auto& file : files) {
      if (file.starts_with("new/")) continue;
      fs::create_directories(fs::path(out(file)).parent_path());
      write_file(out(file), "old");
    }
  }
  static std::map<std::string, std::string> contents(const std::vector<std::string>& files) {
    std::map<std::string, std::string> contents;
    for (const auto& file : files) contents[file] = fs::exists(out(file)) ? read_file(out(file)) : kAbsent;
    return contents;
  }

 protected:
  static TemporaryDirectory* folder_;
};
TemporaryDirectory* FailingDisk::folder_ = nullptr;

TEST_F(FailingDisk, SampleSet) {
  expect_nothing_lost({"sample", "--model", model(), "--tokenizer", tokenizer(), "--labels", "0,3", "--out", out("set"),
                       "--grid", out("new/grid.png"), "--scales-strip", out("strip.png"), "--tokens-out",
                       out("tokens.safetensors"), "--npz", out("set.npz"), "--quiet"},
                      {"set/000000_class000.png", "set/000001_class003.png", "new/grid.png", "strip.png",
                       "tokens.safetensors", "set.npz"},
                      30);
}

TEST_F(FailingDisk, TokensOfPicturesAndBack) {
  expect_nothing_lost({"encode", "--tokenizer", tokenizer(), "--images", pictures(), "--tokens-out",
                       out("new/tokens.safetensors"), "--quiet"},
                      {"new/tokens.safetensors"}, 7);
  const auto tokens = (*folder_ / "tokens.safetensors").string();
  fs::copy_file(out("new/tokens.safetensors"), tokens);
  expect_nothing_lost({"decode", "--tokens", tokens, "--tokenizer", tokenizer(), "--out", out("set"), "--quiet"},
                      {"set/000000_class001.png", "set/000001_class001.png"}, 7);
}

TEST_F(FailingDisk, ConvertedWeights) {
  expect_nothing_lost({"convert", tokenizer(), out("new/other.safetensors")}, {"new/other.safetensors"}, 40, 29);
  expect_nothing_lost({"convert", model(), out("model.pth")}, {"model.pth"}, 40, 29);
}

TEST_F(FailingDisk, TokenCache) {
  fs::create_directories(*folder_ / "data/only");
  for (int i = 0; i < 20; ++i) {
    write_png(*folder_ / "data/only" / (std::to_string(i) + ".png"), at::full({6, 6, 3}, 10 * i, at::kByte));
  }
  expect_nothing_lost({"cache-tokens", "--data", (*folder_ / "data").string(), "--tokenizer", tokenizer(), "--out",
                       out("cache.safetensors"), "--workers", "1", "--quiet"},
                      {"cache.safetensors"}, 6);
}

TEST_F(FailingDisk, Evaluation) {
  Classifier classifier(ClassifierOptions{.classes = 2, .channels = 3, .side = 6, .widths = {4}, .feature_width = 3});
  const auto judge = (*folder_ / "classifier.safetensors").string();
  save_classifier(judge, classifier, {});
  // A report of two pictures is long, and more of the same.
  expect_nothing_lost({"evaluate", "--generated", pictures(), "--reference", pictures(), "--features", "classifier",
                       "--classifier", judge, "--metrics", "fid", "--json", out("new/numbers.json"), "--report",
                       out("report.html"), "--save-statistics", out("statistics.npz"), "--quiet"},
                      {"new/numbers.json", "report.html", "statistics.npz"}, 18, 5);
}

TEST_F(FailingDisk, TooLittleSpaceIsNoticedBeforeTheWork) {
  const auto expect_noticed = [](const Words& words) {
    fs::remove_all(out(""));
    const auto result = run(words, {"FAILING_DISK_FREE=4096"});
    EXPECT_EQ(result.code, 1);
    ASSERT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, HasSubstr("too little disk: expected "));
    if (!fs::exists(out(""))) return;
    for (const auto& entry : fs::recursive_directory_iterator(out("")))
      EXPECT_TRUE(entry.is_directory()) << entry.path();
  };
  expect_noticed(
      {"sample", "--model", model(), "--tokenizer", tokenizer(), "--random-labels", "500", "--out", out("set")});
  expect_noticed({"sample", "--model", model(), "--tokenizer", tokenizer(), "--random-labels", "40", "--out",
                  out("set"), "--npz", out("set.npz")});
  expect_noticed({"convert", tokenizer(), out("other.safetensors")});
}

}  // namespace
}  // namespace nextscale::testing
