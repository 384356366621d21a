#include <algorithm>
#include <cstdlib>
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
#include "nextscale/io/npz.h"
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
using ::testing::StartsWith;

using Words = std::vector<std::string>;

constexpr int64_t kSide = 6, kGenerated = 40, kReal = 30;

at::Tensor noise_pictures(int64_t count, uint64_t seed) {
  auto generator = make_generator(seed);
  return at::randint(0, 256, {count, kSide, kSide, 3}, generator, at::kLong).to(at::kByte);
}

void write_pictures(const fs::path& folder, const at::Tensor& pictures, bool named) {
  fs::create_directories(folder);
  for (int64_t i = 0; i < pictures.size(0); ++i) {
    write_png(folder / (named ? fmt::format("{:06}_class{:03}.png", i, i % 5) : fmt::format("{:06}.png", i)),
              pictures[i]);
  }
}

void write_npz(const fs::path& path, const at::Tensor& pictures) {
  NpzWriter writer(path);
  writer.begin("arr_0", Dtype::u8, pictures.sizes().vec());
  writer.write({static_cast<const std::byte*>(pictures.const_data_ptr()), static_cast<size_t>(pictures.nbytes())});
  writer.finish();
}

/// Pictures of noise, a classifier and a model of random weights, made once for
/// all tests.
class EvaluateCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    at::manual_seed(1);
    Classifier classifier(
        ClassifierOptions{.classes = 5, .channels = 3, .side = kSide, .widths = {6, 8}, .feature_width = 7});
    save_classifier(path("classifier.safetensors"), classifier, {"shirt", "boot", "bag", "coat", "dress"});
    save_tiny_tokenizer(path("tokenizer.safetensors"));
    save_tiny_transformer(path("model.safetensors"));
    write_pictures(path("generated"), noise_pictures(kGenerated, 1), true);
    write_pictures(path("real"), noise_pictures(kReal, 2), false);
    write_npz(path("generated.npz"), noise_pictures(kGenerated, 1));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  std::string own(const std::string& name) const { return (own_ / name).string(); }

  static Words words(const std::string& generated, const std::string& reference, const Words& further = {}) {
    Words all{"evaluate",
              "--generated",
              generated,
              "--features",
              "classifier",
              "--classifier",
              path("classifier.safetensors"),
              "--kid-subset-size",
              "20",
              "--quiet"};
    if (!reference.empty()) all.insert(all.end(), {"--reference", reference});
    all.insert(all.end(), further.begin(), further.end());
    return all;
  }
  nlohmann::json numbers(Words all) const {
    all.insert(all.end(), {"--json", own("numbers.json")});
    const auto result = run_nextscale(all);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? read_json_file(own("numbers.json")) : nlohmann::json();
  }
  void expect_refused(Words all, int code, const ::testing::Matcher<const std::string&>& says) const {
    all.insert(all.end(), {"--json", own("numbers.json"), "--report", own("report.html")});
    expect_refusal(all, code, says, {own("numbers.json"), own("report.html")});
  }

  static TemporaryDirectory* folder_;
  TemporaryDirectory own_;
};
TemporaryDirectory* EvaluateCommand::folder_ = nullptr;

TEST_F(EvaluateCommand, AllNumbersWithIntervalsAndHowTheyWereMade) {
  const auto json = numbers(
      words(path("generated"), path("real"), {"--metrics", "fid,kid,pr,prdc,memorisation,accuracy", "--fid-infinity"}));
  for (const char* name :
       {"frechet_distance", "kid", "precision", "recall", "density", "coverage", "memorisation", "accuracy"}) {
    ASSERT_TRUE(json.at("metrics").contains(name)) << name;
    const auto& metric = json.at("metrics").at(name);
    EXPECT_LE(metric.at("low"), metric.at("high")) << name;
  }
  EXPECT_LT(json.at("metrics").at("frechet_distance").at("infinity"),
            json.at("metrics").at("frechet_distance").at("value"));
  EXPECT_FALSE(json.at("metrics").contains("fid")) << "no FID without its network";
  EXPECT_EQ(json.at("generated").at("pictures"), kGenerated);
  EXPECT_EQ(json.at("reference").at("pictures"), kReal);
  EXPECT_EQ(json.at("protocol"), "adm");
  EXPECT_EQ(json.at("weights").at("hash").get<std::string>().size(), 32U);
  EXPECT_THAT(json.at("sentence").get<std::string>(), HasSubstr("40 pictures of 6 x 6 against 30 pictures"));
  EXPECT_FALSE(json.at("warnings").empty()) << "40 pictures are few";
}

TEST_F(EvaluateCommand, AShareOfAllIsNoCertainty) {
  const auto precision =
      numbers(words(path("generated"), path("generated.npz"), {"--metrics", "pr"})).at("metrics").at("precision");
  EXPECT_EQ(precision.at("value"), 1);
  EXPECT_EQ(precision.at("high"), 1);
  EXPECT_NEAR(precision.at("low"), 0.912, 0.001);  // Wilson's of 40 of 40
}

TEST_F(EvaluateCommand, FolderTarAndNpzAreTheSamePictures) {
  ASSERT_EQ(std::system(("tar -C " + path("generated") + " -cf " + own("set.tar") + " .").c_str()), 0);
  const auto from_folder = numbers(words(path("generated"), path("real"), {"--metrics", "fid"}));
  const auto from_npz = numbers(words(path("generated.npz"), path("real"), {"--metrics", "fid"}));
  const auto from_tar = numbers(words(own("set.tar"), path("real"), {"--metrics", "fid"}));
  for (const auto& other : {from_npz, from_tar}) {
    EXPECT_EQ(other.at("generated").at("hash"), from_folder.at("generated").at("hash"));
    EXPECT_EQ(other.at("metrics"), from_folder.at("metrics"));
  }
}

TEST_F(EvaluateCommand, IdxFilesAreSetsToo) {
  const auto grey = noise_pictures(kGenerated, 4).slice(3, 0, 1).contiguous();  // (N, 6, 6, 1)
  write_pictures(own("grey"), grey.expand({-1, -1, -1, 3}).contiguous(), false);
  std::string idx("\0\0\x08\x03\0\0\0\x28\0\0\0\x06\0\0\0\x06", 16);
  idx.append(static_cast<const char*>(grey.const_data_ptr()), static_cast<size_t>(grey.nbytes()));
  write_file(own("some-images-idx3-ubyte"), idx);
  const auto from_folder = numbers(words(own("grey"), path("real"), {"--metrics", "fid"}));
  const auto from_idx = numbers(words(own("some-images-idx3-ubyte"), path("real"), {"--metrics", "fid"}));
  EXPECT_EQ(from_idx.at("generated").at("hash"), from_folder.at("generated").at("hash"));
}

TEST_F(EvaluateCommand, WorkersAndBatchesChangeNothing) {
  const auto one = numbers(words(path("generated"), path("real"), {"--metrics", "fid", "--workers", "0"}));
  const auto many =
      numbers(words(path("generated"), path("real"), {"--metrics", "fid", "--workers", "5", "--scoring-batch", "7"}));
  EXPECT_EQ(one.at("generated").at("hash"), many.at("generated").at("hash"));
  EXPECT_NEAR(one.at("metrics").at("frechet_distance").at("value"),
              many.at("metrics").at("frechet_distance").at("value"), 1e-9);
}

TEST_F(EvaluateCommand, StatisticsAreSavedAndReused) {
  const auto direct = numbers(words(path("generated"), path("real"), {"--metrics", "fid"}));
  const auto saving =
      run_nextscale(words(path("real"), "", {"--save-statistics", own("real.npz"), "--metrics", "accuracy"}));
  // no classes in these names: said before anything is written
  EXPECT_EQ(saving.code, 1);
  ASSERT_EQ(run_nextscale(words(path("real"), "", {"--save-statistics", own("real.npz")})).code, 0);
  const auto reused = numbers(words(path("generated"), own("real.npz"), {"--metrics", "fid"}));
  EXPECT_NEAR(reused.at("metrics").at("frechet_distance").at("value"),
              direct.at("metrics").at("frechet_distance").at("value"), 1e-7);
  EXPECT_EQ(reused.at("reference").at("statistics_of"), kReal);
  NpzFile npz(own("real.npz"));
  EXPECT_EQ(npz.array("mu").shape, (std::vector<int64_t>{7}));
  EXPECT_EQ(npz.array("sigma").shape, (std::vector<int64_t>{7, 7}));
  fs::remove(own("numbers.json"));
  expect_refused(words(path("generated"), own("real.npz"), {"--metrics", "kid"}), 1, HasSubstr("statistics only"));
}

TEST_F(EvaluateCommand, ReportIsOnePage) {
  Words all = words(path("generated"), path("real"), {"--report", own("report.html")});
  ASSERT_EQ(run_nextscale(all).code, 0);
  const auto page = read_file(own("report.html"));
  EXPECT_THAT(page, AllOf(StartsWith("<!doctype html>"), HasSubstr("data:image/png;base64,"),
                          HasSubstr("FD-classifier"), HasSubstr("nearest reference picture"), Not(HasSubstr("http"))));
}

TEST_F(EvaluateCommand, SamplesOfARunAreScoredWithoutFiles) {
  const Words sampling{"--per-class", "8", "--cfg", "1.5", "--seed", "3"};
  auto all = words(path("model.safetensors"), path("real"), sampling);
  all.insert(all.end(), {"--tokenizer", path("tokenizer.safetensors"), "--metrics", "fid,accuracy"});
  const auto run = numbers(all);
  Words sample{
      "sample",        "--model", path("model.safetensors"), "--tokenizer", path("tokenizer.safetensors"), "--out",
      own("pictures"), "--npz",   own("samples.npz"),        "--quiet"};
  sample.insert(sample.end(), sampling.begin(), sampling.end());
  sample.insert(sample.end(),
                {"--evaluate", path("real"), "--features", "classifier", "--classifier", path("classifier.safetensors"),
                 "--metrics", "fid,accuracy", "--json", own("beside.json")});
  const auto sampled = run_nextscale(sample);
  ASSERT_EQ(sampled.code, 0) << sampled.err;
  const auto beside = read_json_file(own("beside.json"));
  EXPECT_EQ(beside.at("metrics"), run.at("metrics"));
  EXPECT_EQ(beside.at("generated").at("pictures"), 40);
  EXPECT_THAT(run.at("sampling").at("guidance").get<std::string>(), HasSubstr("t = 1.5*k/(K-1)"));
  EXPECT_EQ(run.at("sampling").at("seed"), 3);
  const auto from_file = numbers(words(own("samples.npz"), path("real"), {"--metrics", "fid,accuracy"}));
  EXPECT_NEAR(from_file.at("metrics").at("frechet_distance").at("value"),
              run.at("metrics").at("frechet_distance").at("value"), 1e-9);
  EXPECT_EQ(from_file.at("metrics").at("accuracy").at("value"), run.at("metrics").at("accuracy").at("value"));
}

TEST_F(EvaluateCommand, ReconstructionsStandAgainstTheSameCrops) {
  const auto json =
      numbers({"evaluate", "--reconstruct", path("tokenizer.safetensors"), "--reference", path("real"), "--features",
               "classifier", "--classifier", path("classifier.safetensors"), "--metrics", "fid", "--quiet"});
  EXPECT_EQ(json.at("generated").at("pictures"), kReal);
  EXPECT_THAT(json.at("sentence").get<std::string>(), HasSubstr("the very crops"));
}

TEST_F(EvaluateCommand, SideCropsBothSides) {
  auto generator = make_generator(5);
  const auto large = at::randint(0, 256, {kReal, 9, 12, 3}, generator, at::kLong).to(at::kByte);
  write_pictures(own("large"), large, false);
  expect_refused(words(path("generated"), own("large")), 1, HasSubstr("trained on pictures of another size"));
  const auto json = numbers(words(path("generated"), own("large"), {"--side", "6", "--metrics", "fid"}));
  EXPECT_EQ(json.at("reference").at("width"), 6);
  EXPECT_THAT(json.at("sentence").get<std::string>(), HasSubstr("center-cropped to 6 on both sides"));
}

TEST_F(EvaluateCommand, BadPicturesAreNamed) {
  fs::create_directories(own("empty"));
  expect_refused(words(own("empty"), path("real")), 1, HasSubstr("no pictures inside"));
  expect_refused(words(own("absent"), path("real")), 1, HasSubstr("no such file or folder"));
  write_pictures(own("mixed"), noise_pictures(3, 1), false);
  write_png(own("mixed") + "/000002.png", at::zeros({5, 6, 3}, at::kByte));
  expect_refused(words(own("mixed"), path("real")), 1, AllOf(HasSubstr("000002.png"), HasSubstr("another size")));
  write_pictures(own("cut"), noise_pictures(3, 1), false);
  const auto whole = read_file(own("cut") + "/000001.png");
  write_file(own("cut") + "/000001.png", whole.substr(0, whole.size() / 2));
  expect_refused(words(own("cut"), path("real")), 1, AllOf(HasSubstr("000001.png"), HasSubstr("damaged picture")));
  write_pictures(own("two"), noise_pictures(1, 1), false);
  expect_refused(words(own("two"), path("real"), {"--metrics", "fid"}), 1, HasSubstr("too few"));
}

TEST_F(EvaluateCommand, TransparentPicturesAreRefused) {
  // 1 x 1 PNG with alpha, as bytes
  const std::string png(
      "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\10\6\0\0\0\x1f\x15\xc4\x89"
      "\0\0\0\rIDATx\x9c\x63\x60\x60\x60\xf8\x0f"
      "\0\1\4\1\0\x5f\xe5\xc3\x4b\0\0\0\0IEND\xae\x42\x60\x82",
      70);
  fs::create_directories(own("alpha"));
  write_file(own("alpha") + "/a.png", png);
  expect_refused(words(own("alpha"), path("real")), 1, AllOf(HasSubstr("a.png"), HasSubstr("alpha")));
}

TEST_F(EvaluateCommand, BadStatisticsAreNamed) {
  const auto refuse = [&](const std::string& name, const at::Tensor& mean, const at::Tensor& covariance,
                          const std::string& says) {
    NpzWriter writer(own(name));
    for (const auto& [key, values] : {std::pair{"mu", mean}, {"sigma", covariance}}) {
      if (!values.defined()) continue;
      writer.begin(key, Dtype::f64, values.sizes().vec());
      writer.write({static_cast<const std::byte*>(values.const_data_ptr()), static_cast<size_t>(values.nbytes())});
    }
    writer.finish();
    expect_refused(words(path("generated"), own(name)), 1, AllOf(HasSubstr(name), HasSubstr(says)));
  };
  const auto mean = at::zeros({7}, at::kDouble), covariance = at::eye(7, at::kDouble);
  auto nan = covariance.clone();
  nan[2][2] = std::nan("");
  auto uneven = covariance.clone();
  uneven[0][1] = 0.5;
  refuse("nan.npz", mean, nan, "NaN");
  refuse("uneven.npz", mean, uneven, "not symmetric");
  refuse("negative.npz", mean, -covariance, "negative");
  refuse("wide.npz", at::zeros({9}, at::kDouble), at::eye(9, at::kDouble), "other features");
  refuse("apart.npz", at::zeros({5}, at::kDouble), covariance, "does not fit");
  refuse("alone.npz", mean, {}, "mu without sigma");
}

TEST_F(EvaluateCommand, WrongCallsAreUsageErrors) {
  expect_refused(words(path("generated"), path("real"), {"--metrics", "fod"}), 2, HasSubstr("--metrics"));
  expect_refused(words(path("generated"), path("real"), {"--protocol", "mine"}), 2, HasSubstr("--protocol"));
  expect_refused({"evaluate", "--reference", path("real")}, 2, HasSubstr("--generated"));
  expect_refused({"evaluate", "--generated", path("generated"), "--reference", path("real")}, 2,
                 AllOf(HasSubstr("--weights"), HasSubstr("pt_inception-2015-12-05-6726825d.pth"),
                       HasSubstr("scripts/download-weights.sh")));
  expect_refused(words(path("generated"), path("real"), {"--metrics", "sfid"}), 1, HasSubstr("--features inception"));
  expect_refused(words(path("model.safetensors"), path("real")), 2, HasSubstr("--tokenizer"));
}

TEST_F(EvaluateCommand, DamagedWeightsAreNamed) {
  auto file = read_weights(path("classifier.safetensors"));
  file.tensors.pop_back();
  write_weights(own("less.safetensors"), file);
  auto all = words(path("generated"), path("real"));
  *std::find(all.begin(), all.end(), path("classifier.safetensors")) = own("less.safetensors");
  expect_refused(all, 1, AllOf(HasSubstr("less.safetensors"), HasSubstr("missing")));
}

/// Every broken archive of the shared fixtures: refused in one line that names
/// the file, nothing written.
TEST_F(EvaluateCommand, MalformedArchivesOfOthers) {
  const char* shared = std::getenv("NEXTSCALE_FIXTURES");
  const auto folder = fs::path(shared != nullptr ? shared : "") / "evaluate/npz_malformed";
  if (shared == nullptr || !fs::is_directory(folder)) {
    GTEST_SKIP() << "NEXTSCALE_FIXTURES names no fixtures; tests/corpus/npz "
                    "and the tests above hold the same faults";
  }
  int refused = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (name == "spatial_missing.npz") continue;
    SCOPED_TRACE(name);
    expect_refused(words(path("generated"), entry.path().string()), 1, HasSubstr(name));
    ++refused;
  }
  EXPECT_GE(refused, 34);
}

}  // namespace
}  // namespace nextscale::testing
