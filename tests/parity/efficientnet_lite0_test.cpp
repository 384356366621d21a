// EfficientNet-Lite0 with its published weights against what efficientnet_lite_pytorch answers on two made-up pictures.
#include "nextscale/networks/efficientnet_lite0.h"

#include <cstdlib>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/perceptual.h"
#include "nextscale/tests/support/recipe_pictures.h"

namespace nextscale {
namespace {

using testing::fixture_file;
using testing::relative_l2;

class ParityEfficientNetLite0 : public ::testing::Test {
 protected:
  void SetUp() override {
    index_ = testing::fixture_table("evaluate/efficientnet_lite0.json");
    expected_ = read_weights(fixture_file("evaluate/efficientnet_lite0.safetensors")).tensors;
    const char* folder = std::getenv("NEXTSCALE_WEIGHTS");
    const auto path = std::filesystem::path(folder == nullptr ? "" : folder) / index_.at("weights_file");
    // The network's arithmetic without them, against a plain twin: tests/networks/efficientnet_lite0_test.cpp.
    if (!std::filesystem::exists(path))
      GTEST_SKIP() << "no published weights: $NEXTSCALE_WEIGHTS lacks " << path.filename();
    network_ = load_efficientnet_lite0(path);
  }
  at::Tensor expected(const nlohmann::json& picture, const std::string& what) const {
    return find_tensor(expected_, picture.at("label").get<std::string>() + "/" + what);
  }
  /// (1, 3, 224, 224)
  static at::Tensor input(const nlohmann::json& picture) {
    const auto name = picture.at("name").get<std::string>();
    const auto kind = name.find("smooth") != std::string::npos ? "smooth" : "blocks";
    const auto side = EfficientNetLite0Impl::kSide;
    return lite0_range(testing::recipe_picture(name, kind, side, side).permute({2, 0, 1}).unsqueeze(0));
  }

  nlohmann::json index_;
  NamedTensors expected_;
  EfficientNetLite0 network_{nullptr};
  at::NoGradGuard no_grad_;
};

TEST_F(ParityEfficientNetLite0, FeaturesAndLogitsAreThePublishedNetworks) {
  ASSERT_EQ(index_.at("pictures").size(), 2u);
  for (const auto& picture : index_.at("pictures")) {
    SCOPED_TRACE(picture.at("label").get<std::string>());
    const auto pictures = input(picture);
    const auto stem = network_->stem(pictures)[0].slice(1, 0, 112, 37).slice(2, 0, 112, 37);
    const auto features = network_->features(pictures);
    const auto logits = network_->logits(features)[0];
    // float32 against float64 is 6e-7; the same network with another padding or range is 1e-2 and more off.
    EXPECT_LE(relative_l2(stem, expected(picture, "stem_sample")), 1e-5);
    EXPECT_LE(relative_l2(features[0], expected(picture, "pooled_1280")), 1e-5);
    EXPECT_LE(relative_l2(logits, expected(picture, "logits")), 1e-5);
    const auto top = logits.topk(5);
    for (int64_t i = 0; i < 5; ++i) {
      const auto& [label, logit] = picture.at("top5")[static_cast<size_t>(i)].get<std::pair<int64_t, float>>();
      EXPECT_EQ(std::get<1>(top)[i].item<int64_t>(), label);
      EXPECT_NEAR(std::get<0>(top)[i].item<float>(), logit, 1e-4);
    }
    fmt::print("{}: relative L2 of the stem {:.1e}, features {:.1e}, logits {:.1e}\n",
               picture.at("label").get<std::string>(), relative_l2(stem, expected(picture, "stem_sample")),
               relative_l2(features[0], expected(picture, "pooled_1280")),
               relative_l2(logits, expected(picture, "logits")));
  }
}

TEST_F(ParityEfficientNetLite0, AnswersAreTheSameInABatch) {
  const auto& pictures = index_.at("pictures");
  const auto both = network_->features(at::cat({input(pictures[0]), input(pictures[1])}));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_LE(relative_l2(both[i], expected(pictures[static_cast<size_t>(i)], "pooled_1280")), 1e-5);
  }
}

TEST_F(ParityEfficientNetLite0, AllEntriesOfTheFileArrive) {
  const auto stored = state_dict(*network_);
  EXPECT_EQ(stored.size(), index_.at("entries").get<size_t>());
  int64_t values = 0;
  for (const auto& [name, tensor] : stored) values += tensor.numel();
  EXPECT_EQ(values, 4'694'073);
}

}  // namespace
}  // namespace nextscale
