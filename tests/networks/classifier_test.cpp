#include "nextscale/networks/classifier.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;

const ClassifierOptions kSmall{.classes = 3, .channels = 1, .side = 8, .widths = {4, 6, 5}, .feature_width = 7};
const std::vector<std::string> kNames{"bag", "boot", "\"coat\", \xC3\xA9t\xC3\xA9"};

at::Tensor waves() { return at::linspace(-1, 1, 2 * 64).view({2, 1, 8, 8}).sin(); }

/// Weights that differ from a new network's in every entry, running statistics included.
Classifier trained() {
  at::manual_seed(3);
  Classifier classifier(kSmall);
  const at::NoGradGuard no_grad;
  classifier->train();
  for (int i = 0; i < 3; ++i) classifier->forward(at::randn({4, 1, 8, 8}));
  classifier->eval();
  return classifier;
}

TEST(Classifier, GivesFeaturesThatAreNotNegativeAndLogitsOfEveryClass) {
  auto classifier = trained();
  const auto features = classifier->features(waves());
  EXPECT_EQ(features.sizes(), at::IntArrayRef({2, 7}));
  EXPECT_GE(features.min().item<float>(), 0);
  EXPECT_GT(features.max().item<float>(), 0);
  EXPECT_EQ(classifier->forward(waves()).sizes(), at::IntArrayRef({2, 3}));
  EXPECT_TRUE(all_close(classifier->forward(waves()), classifier->logits(features)));
}

TEST(Classifier, JudgesAPictureAloneAsItDoesAmongOthers) {
  auto classifier = trained();
  const auto all = classifier->forward(waves());
  EXPECT_TRUE(all_close(classifier->forward(waves().slice(0, 1, 2)), all.slice(0, 1, 2), {.absolute = 1e-6}));
}

TEST(Classifier, TakesAnySideAndAnyNumberOfConvolutions) {
  for (const int64_t side : {1, 2, 5, 28}) {
    for (const auto& widths : std::vector<std::vector<int64_t>>{{3}, {3, 4}, {3, 4, 5, 6, 7, 8}}) {
      Classifier classifier(ClassifierOptions{.classes = 2, .channels = 3, .side = side, .widths = widths});
      classifier->eval();
      EXPECT_EQ(classifier->forward(at::zeros({2, 3, side, side})).sizes(), at::IntArrayRef({2, 2}));
    }
  }
}

TEST(Classifier, FoldsBlocksOfPixelsIntoChannels) {
  at::manual_seed(3);
  Classifier folded(ClassifierOptions{.classes = 2, .channels = 1, .side = 8, .fold = 2, .widths = {4, 6}});
  EXPECT_EQ(folded->named_parameters()["conv_0.weight"].sizes(), at::IntArrayRef({4, 4, 3, 3}));
  folded->eval();
  // Within a block, a pixel further along is another channel, not another place.
  auto picture = at::zeros({1, 1, 8, 8});
  picture[0][0][3][3] = 1;
  EXPECT_FALSE(at::allclose(folded->features(picture), folded->features(picture.roll(1, 3))));
  EXPECT_EQ(folded->forward(picture).sizes(), at::IntArrayRef({1, 2}));
}

TEST(Classifier, ComesBackFromItsFileWithWeightsStatisticsOptionsAndNames) {
  const TemporaryDirectory folder;
  auto classifier = trained();
  save_classifier(folder / "judge.safetensors", classifier, kNames);
  auto again = load_classifier(folder / "judge.safetensors");
  EXPECT_FALSE(again->is_training());
  EXPECT_EQ(again->options().widths, kSmall.widths);
  EXPECT_EQ(load_class_names(folder / "judge.safetensors"), kNames);
  const auto stored = state_dict(*again);
  for (const auto& [name, tensor] : state_dict(*classifier)) {
    EXPECT_TRUE(all_close(find_tensor(stored, name), tensor)) << name;
  }
  EXPECT_TRUE(all_close(again->forward(waves()), classifier->forward(waves())));
}

TEST(Classifier, StoresOtherWeightsWhereTheyAreGiven) {
  const TemporaryDirectory folder;
  auto classifier = trained();
  NamedTensors averaged;
  for (const auto& [name, tensor] : state_dict(*classifier)) averaged.emplace_back(name, tensor.detach() + 1);
  save_classifier(folder / "judge.safetensors", classifier, {}, averaged);
  const auto stored = state_dict(*load_classifier(folder / "judge.safetensors"));
  EXPECT_TRUE(all_close(find_tensor(stored, "head.bias"), find_tensor(averaged, "head.bias")));
  EXPECT_TRUE(load_class_names(folder / "judge.safetensors").empty());
}

TEST(Classifier, RefusesFilesThatAreNoClassifierWithOneLine) {
  const TemporaryDirectory folder;
  const auto path = folder / "judge.safetensors";
  const auto refused = [&](const std::function<void(WeightsFile&)>& damage) {
    const auto classifier = trained();
    save_classifier(path, classifier, kNames);
    WeightsFile file = read_weights(path);
    for (auto& [name, tensor] : file.tensors) tensor = tensor.clone();
    damage(file);
    write_weights(path, file);
    return message_of([&] { load_class_names(path), load_classifier(path); });
  };
  EXPECT_EQ(refused([](WeightsFile&) {}), "no error");
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata["format"] = "nextscale.tokenizer"; }),
              HasSubstr("nextscale.classifier"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata.erase("config"); }), HasSubstr("config"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata["config"] = "{"; }), HasSubstr("config"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata["config"] = "{\"widths\":[]}"; }), HasSubstr("widths"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata["class_names"] = "[1,2,3]"; }), HasSubstr("class_names"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.metadata["class_names"] = "[\"a\"]"; }), HasSubstr("class_names"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.tensors.pop_back(); }), HasSubstr("missing"));
  EXPECT_THAT(refused([](WeightsFile& file) { file.tensors[0].second = at::zeros({1, 2}); }), HasSubstr("shape"));
  EXPECT_THAT(message_of([&] { load_classifier(folder / "nothing"); }), HasSubstr("nothing"));
}

}  // namespace
}  // namespace nextscale
