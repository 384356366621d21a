#include "nextscale/networks/efficientnet_lite0.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/recipe.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::recipe_tensor;
using testing::TemporaryDirectory;

/// Weights of the size that keeps values alive through all layers; norms that do something.
EfficientNetLite0 made_up_lite0() {
  EfficientNetLite0 network;
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : state_dict(*network)) {
    if (!tensor.is_floating_point()) continue;
    const bool is_norm = name.find("_bn") != std::string::npos;
    const double fan_in = static_cast<double>(tensor.numel()) / static_cast<double>(tensor.size(0));
    const double scale = is_norm ? 0.4 : std::sqrt(6.0 / fan_in);
    const double offset = is_norm && !name.ends_with("mean") && !name.ends_with("bias") ? 1.0 : 0.0;
    tensor.copy_(recipe_tensor("lite0/" + name, tensor.sizes().vec(), scale, offset));
  }
  network->eval();
  return network;
}

at::Tensor pictures(int64_t height, int64_t width) {
  return recipe_tensor("lite0/pictures", {2, 3, height, width}, 1.0, 0.0);
}

TEST(EfficientNetLite0, HasThePublishedNamesAndShapes) {
  const auto stored = state_dict(*EfficientNetLite0());
  EXPECT_EQ(stored.size(), 296u);
  EXPECT_EQ(std::count_if(stored.begin(), stored.end(),
                          [](const auto& entry) { return !entry.first.ends_with("num_batches_tracked"); }),
            247);
  int64_t values = 0;
  for (const auto& [name, tensor] : stored) values += tensor.numel();
  EXPECT_EQ(values, 4'694'073);
  EXPECT_EQ(stored.front().first, "_conv_stem.weight");
  EXPECT_EQ(stored.back().first, "_fc.bias");
  const auto shape = [&](const std::string& name) { return find_tensor(stored, name).sizes(); };
  EXPECT_FALSE(find_tensor(stored, "_blocks.0._expand_conv.weight").defined());
  EXPECT_EQ(shape("_conv_stem.weight"), at::IntArrayRef({32, 3, 3, 3}));
  EXPECT_EQ(shape("_blocks.0._depthwise_conv.weight"), at::IntArrayRef({32, 1, 3, 3}));
  EXPECT_EQ(shape("_blocks.1._expand_conv.weight"), at::IntArrayRef({96, 16, 1, 1}));
  EXPECT_EQ(shape("_blocks.3._depthwise_conv.weight"), at::IntArrayRef({144, 1, 5, 5}));
  EXPECT_EQ(shape("_blocks.15._project_conv.weight"), at::IntArrayRef({320, 1152, 1, 1}));
  EXPECT_EQ(shape("_blocks.15._bn2.running_var"), at::IntArrayRef({320}));
  EXPECT_EQ(shape("_conv_head.weight"), at::IntArrayRef({1280, 320, 1, 1}));
  EXPECT_EQ(shape("_fc.weight"), at::IntArrayRef({1000, 1280}));
}

TEST(EfficientNetLite0, FoldedAndUnfoldedAgreeAtAnySize) {
  const at::NoGradGuard no_grad;
  auto plain = made_up_lite0(), folded = made_up_lite0();
  folded->fold();
  EXPECT_EQ(state_dict(*folded).size(), 296u);
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{224, 224}, {97, 64}, {33, 50}, {1, 7}}) {
    SCOPED_TRACE(::testing::Message() << height << " x " << width);
    const auto expected = plain->features(pictures(height, width));
    EXPECT_EQ(expected.sizes(), at::IntArrayRef({2, 1280}));
    EXPECT_GT(expected.std().item<float>(), 0.05);  // values are alive and not all clipped
    const auto actual = folded->features(pictures(height, width));
    EXPECT_LE(((actual - expected).norm() / expected.norm()).item<double>(), 1e-5);
    EXPECT_FALSE(actual.equal(expected)) << "nothing was folded";
    EXPECT_EQ(folded->logits(actual).sizes(), at::IntArrayRef({2, 1000}));
  }
}

TEST(EfficientNetLite0, TheWholeIsThatOfThePaper) {
  // The same written once more, layer by layer, from names and shapes alone.
  const at::NoGradGuard no_grad;
  auto network = made_up_lite0();
  const auto stored = state_dict(*network);
  const auto layer = [&](at::Tensor x, const std::string& conv, const std::string& norm, int64_t stride, bool clips) {
    const auto weight = find_tensor(stored, conv + ".weight");
    const auto parameter = [&](const char* name) { return find_tensor(stored, norm + "." + name); };
    const int64_t kernel = weight.size(2), more = kernel > 1 ? kernel - stride : 0;  // even sides
    x = at::constant_pad_nd(x, {more / 2, more - more / 2, more / 2, more - more / 2});
    x = at::conv2d(x, weight, {}, stride, at::IntArrayRef{0, 0}, 1, x.size(1) / weight.size(1));
    x = at::batch_norm(x, parameter("weight"), parameter("bias"), parameter("running_mean"), parameter("running_var"),
                       false, 0, 1e-3, false);
    return clips ? x.clamp(0, 6) : x;
  };
  const std::vector<int64_t> strides{1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1};
  auto h = layer(pictures(224, 224), "_conv_stem", "_bn0", 2, true);
  for (size_t i = 0; i < strides.size(); ++i) {
    const auto block = "_blocks." + std::to_string(i) + ".";
    auto x = i == 0 ? h : layer(h, block + "_expand_conv", block + "_bn0", 1, true);
    x = layer(x, block + "_depthwise_conv", block + "_bn1", strides[i], true);
    x = layer(x, block + "_project_conv", block + "_bn2", 1, false);
    h = x.sizes() == h.sizes() ? x + h : x;
  }
  const auto expected = layer(h, "_conv_head", "_bn1", 1, true).mean(at::IntArrayRef({2, 3}));
  const auto actual = network->features(pictures(224, 224));
  EXPECT_LE(((actual - expected).norm() / expected.norm()).item<double>(), 1e-5);
}

TEST(EfficientNetLite0, PadsAsTensorFlow) {
  EXPECT_EQ(same_padding(224, 3, 2), (SamePadding{0, 1}));
  EXPECT_EQ(same_padding(112, 5, 2), (SamePadding{1, 2}));
  EXPECT_EQ(same_padding(225, 3, 2), (SamePadding{1, 1}));
  EXPECT_EQ(same_padding(111, 5, 2), (SamePadding{2, 2}));
  EXPECT_EQ(same_padding(14, 5, 1), (SamePadding{2, 2}));
  EXPECT_EQ(same_padding(7, 1, 1), (SamePadding{0, 0}));
  EXPECT_EQ(same_padding(1, 3, 2), (SamePadding{1, 1}));
}

RC_GTEST_PROP(EfficientNetLite0, PaddingGivesOneOutputForEachStride, ()) {
  const auto length = *rc::gen::inRange<int64_t>(1, 300), kernel = *rc::gen::element<int64_t>(1, 3, 5);
  const auto stride = *rc::gen::element<int64_t>(1, 2);
  const auto padding = same_padding(length, kernel, stride);
  RC_ASSERT(padding.before >= 0 && padding.after - padding.before >= 0 && padding.after - padding.before <= 1);
  RC_ASSERT((length + padding.before + padding.after - kernel) / stride + 1 == (length + stride - 1) / stride);
}

TEST(EfficientNetLite0, TheStemStandsWhereThePaddingSays) {
  const at::NoGradGuard no_grad;
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{6, 8}, {7, 8}, {6, 9}, {7, 9}}) {
    SCOPED_TRACE(::testing::Message() << height << " x " << width);
    EfficientNetLite0 network;
    network->eval();
    for (auto& [name, tensor] : state_dict(*network)) {
      if (name == "_conv_stem.weight") tensor.zero_(), tensor[0][0][0][0] = std::sqrt(1 + 1e-3);  // left, top
    }
    const auto picture = recipe_tensor("lite0/pictures", {1, 3, height, width}, 1.0, 2.0);
    const auto stem = network->stem(picture)[0][0];
    ASSERT_EQ(stem.sizes(), at::IntArrayRef({(height + 1) / 2, (width + 1) / 2}));
    for (int64_t y = 0; y < stem.size(0); ++y) {
      for (int64_t x = 0; x < stem.size(1); ++x) {
        const int64_t row = 2 * y - height % 2, column = 2 * x - width % 2;  // odd sides are padded before, too
        const float expected = row < 0 || column < 0 ? 0 : picture[0][0][row][column].item<float>();
        EXPECT_NEAR(stem[y][x].item<float>(), expected, 1e-5) << y << ", " << x;
      }
    }
  }
}

TEST(EfficientNetLite0, BytesBecomeTheRangeItWasTrainedWith) {
  const auto actual = lite0_range(at::tensor({0, 127, 255}, at::kByte));
  EXPECT_TRUE(all_close(actual, at::tensor({-127.0f / 128, 0.0f, 1.0f}), {.absolute = 0}));
}

TEST(EfficientNetLite0, ComesBackFromItsFileFolded) {
  const at::NoGradGuard no_grad;
  const TemporaryDirectory folder;
  auto network = made_up_lite0();
  write_pth(folder / "lite0.pth", state_dict(*network));
  NamedTensors without_counters;
  for (const auto& [name, tensor] : state_dict(*network)) {
    if (!name.ends_with("num_batches_tracked")) without_counters.emplace_back(name, tensor);
  }
  write_weights(folder / "lite0.safetensors", {.tensors = without_counters, .metadata = {}});
  const auto expected = network->features(pictures(64, 64));
  for (const char* name : {"lite0.pth", "lite0.safetensors"}) {
    SCOPED_TRACE(name);
    auto again = load_efficientnet_lite0(folder / name);
    EXPECT_FALSE(again->is_training());
    for (const auto& [entry, tensor] : without_counters) {
      EXPECT_TRUE(find_tensor(state_dict(*again), entry).equal(tensor)) << entry;
    }
    const auto actual = again->features(pictures(64, 64));
    EXPECT_LE(((actual - expected).norm() / expected.norm()).item<double>(), 1e-5);
    EXPECT_FALSE(actual.equal(expected)) << "not folded";
  }
}

TEST(EfficientNetLite0, RefusesFilesThatDoNotFitWithOneLine) {
  const TemporaryDirectory folder;
  const auto path = folder / "lite0.pth";
  const auto whole = state_dict(*made_up_lite0());
  const auto refused = [&](const std::function<void(NamedTensors&)>& damage) {
    NamedTensors damaged;
    for (const auto& [name, tensor] : whole) damaged.emplace_back(name, tensor.detach().clone());
    damage(damaged);
    write_pth(path, damaged);
    return message_of([&] { load_efficientnet_lite0(path); });
  };
  const auto names_file_and = [&](const std::string& entry, const std::string& what) {
    return AllOf(HasSubstr("lite0.pth"), HasSubstr(entry), HasSubstr(what));
  };
  EXPECT_EQ(refused([](NamedTensors&) {}), "no error");
  EXPECT_THAT(refused([](NamedTensors& all) { all.pop_back(); }), names_file_and("_fc.bias", "missing"));
  EXPECT_THAT(refused([](NamedTensors& all) { all.erase(all.begin() + 4); }),
              names_file_and("_bn0.running_var", "missing"));
  EXPECT_THAT(refused([](NamedTensors& all) { all.emplace_back("_blocks.16._bn2.bias", at::zeros({4})); }),
              names_file_and("_blocks.16._bn2.bias", "does not belong here"));
  EXPECT_THAT(refused([](NamedTensors& all) { all[0].second = at::zeros({32, 3, 5, 5}); }),
              names_file_and("_conv_stem.weight", "shape differs"));
  EXPECT_THAT(refused([](NamedTensors& all) { all[0].second[3][1][0][2] = std::nan(""); }),
              names_file_and("_conv_stem.weight", "not finite"));
  EXPECT_THAT(refused([](NamedTensors& all) { all[4].second[0] = INFINITY; }),
              names_file_and("_bn0.running_var", "not finite"));
  refused([](NamedTensors&) {});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_THAT(message_of([&] { load_efficientnet_lite0(path); }), HasSubstr("lite0.pth"));
  EXPECT_THAT(message_of([&] { load_efficientnet_lite0(folder / "nothing.pth"); }), HasSubstr("nothing.pth"));
}

}  // namespace
}  // namespace nextscale
