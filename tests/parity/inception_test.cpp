#include "nextscale/networks/inception.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/evaluate/feature_network.h"
#include "nextscale/evaluate/protocol.h"
#include "nextscale/evaluate/resizes.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/perceptual.h"
#include "nextscale/tests/support/recipe.h"
#include "nextscale/tests/support/recipe_pictures.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::fixture_file;
using testing::recipe_tensor;
using testing::relative_l2;

struct Picture {
  std::string label;
  at::Tensor values;  // (H, W, 3) uint8
};

std::vector<Picture> pictures() {
  std::vector<Picture> all;
  const auto index = read_json_file(fixture_file("evaluate/inception.json"));
  for (const auto& row : index.at("pictures")) {
    all.push_back(
        {row.at("label"), testing::recipe_picture(row.at("name"), row.at("kind"), row.at("height"), row.at("width"))});
  }
  return all;
}

/// Scale and offset of an entry's recipe.
std::pair<double, double> recipe_of(const std::string& entry, const at::Tensor& tensor) {
  if (entry.ends_with("conv.weight")) return {std::sqrt(2.0 / static_cast<double>(tensor[0].numel())), 0.0};
  if (entry.ends_with("bn.weight")) return {0.5, 1.0};
  if (entry.ends_with("bn.bias")) return {0.3, 0.0};
  if (entry.ends_with("running_mean")) return {0.2, 0.0};
  if (entry.ends_with("running_var")) return {0.55, 0.6};
  return {entry == "fc.weight" ? 0.06 : 0.5, 0.0};
}

/// The recipe's weights, as a published file without counters holds them.
NamedTensors recipe_weights() {
  NamedTensors weights;
  Inception network;
  for (const auto& [name, tensor] : state_dict(*network)) {
    if (name.ends_with("num_batches_tracked")) continue;
    const auto [scale, offset] = recipe_of(name, tensor);
    weights.emplace_back(name, recipe_tensor("evaluate/inception/" + name, tensor.sizes().vec(), scale, offset));
  }
  return weights;
}

/// Written once, as torch.save does.
const std::filesystem::path& weights_file() {
  static const testing::TemporaryDirectory folder;
  static const auto path = [] {
    const auto file = folder / "pt_inception.pth";
    write_pth(file, recipe_weights());
    return file;
  }();
  return path;
}

at::Tensor prepared(const FeatureNetwork& network, const at::Tensor& picture) {
  auto shape = network.prepared_shape(picture.size(0), picture.size(1));
  auto out = at::empty(shape, at::kFloat);
  network.prepare(picture, out.mutable_data_ptr<float>());
  return out.unsqueeze(0);
}

TEST(ParityInception, RecipeIsTheFixturesOwn) {
  const auto path = fixture_file("evaluate/recipe.json");
  const auto weights = recipe_weights();
  EXPECT_EQ(weights.size(), 472U);
  if (!std::filesystem::exists(path)) return;  // the values below hold or fail with it
  std::set<std::string> names;
  for (const auto& [name, tensor] : weights) names.insert(name);
  const auto recipe = read_json_file(path);
  if (!recipe.contains("weights")) return;
  for (const auto& row : recipe.at("weights")) {
    const auto entry = row.at("entry").get<std::string>();
    ASSERT_EQ(names.count(entry), 1U) << entry;
    const auto [scale, offset] = recipe_of(entry, find_tensor(weights, entry));
    EXPECT_EQ(static_cast<float>(scale), row.at("scale").get<float>()) << entry;
    EXPECT_EQ(static_cast<float>(offset), row.at("offset").get<float>()) << entry;
  }
}

TEST(ParityInception, FeaturesOfEveryProtocol) {
  const auto expected = read_weights(fixture_file("evaluate/inception.safetensors")).tensors;
  auto network = load_inception(weights_file());
  int64_t compared = 0;
  double worst = 0;
  const auto check = [&](const std::string& name, const at::Tensor& got) {
    const auto want = find_tensor(expected, name);
    if (!want.defined()) return;
    const double apart = relative_l2(got.flatten(), want.flatten());
    worst = std::max(worst, apart);
    EXPECT_LE(apart, 1e-5) << name;
    ++compared;
  };
  for (const auto& [protocol, tool] :
       std::vector<std::pair<std::string, std::string>>{{"adm", "adm"},
                                                        {"torch-fidelity", "torch_fidelity"},
                                                        {"clean-fid", "clean_fid"},
                                                        {"pytorch-fid", "pytorch_fid"}}) {
    const auto whole = open_inception(weights_file(), protocol_of(protocol), c10::kCPU);
    for (const auto& picture : pictures()) {
      const auto out = whole->run(prepared(*whole, picture.values));
      const auto prefix = picture.label + "/" + tool + "/";
      check(prefix + "2048", out.features);
      check(prefix + "spatial", out.spatial);
      check(prefix + "logits_unbiased", out.logits);
    }
  }
  const at::NoGradGuard no_grad;
  for (const auto& picture : pictures()) {
    const auto as_bytes = picture.values.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat);
    const auto half_pixel = network(resize_half_pixel(as_bytes / 255, 299) * 2 - 1);
    auto tensorflow = at::empty({299, 299, 3}, at::kFloat);
    resize_as_tensorflow(picture.values, 299, tensorflow.mutable_data_ptr<float>());
    const auto fidelity = network(((tensorflow - 128) / 128).permute({2, 0, 1}).unsqueeze(0));
    for (const auto& [tool, features] : {std::pair{"pytorch_fid", half_pixel}, {"torch_fidelity", fidelity}}) {
      const auto prefix = picture.label + "/" + tool + "/";
      check(prefix + "64", features.pool_64);
      check(prefix + "192", features.pool_192);
      check(prefix + "768", features.pool_768);
    }
    check(picture.label + "/torch_fidelity/logits", network->logits(fidelity.pool));
  }
  fmt::print("compared inception: {} tensors, worst relative L2 {:.2g}\n", compared, worst);
  EXPECT_GE(compared, 12);
}

TEST(ParityInception, FoldingChangesRoundingOnly) {
  Inception network;
  load_published(*network, recipe_weights(), "recipe");
  network->eval();
  const at::NoGradGuard no_grad;
  const auto input = at::linspace(-1, 1, 3 * 299 * 299).view({1, 3, 299, 299});
  const auto plain = network(input);
  network->fold();
  const auto folded = network(input);
  EXPECT_LE(relative_l2(folded.pool, plain.pool), 2e-6);
  EXPECT_LE(relative_l2(folded.spatial, plain.spatial), 2e-6);
}

TEST(ParityResize, NetworkInputOfEveryProtocol) {
  const auto expected = read_weights(fixture_file("evaluate/resize.safetensors")).tensors;
  int64_t compared = 0;
  const auto check = [&](const std::string& prefix, const at::Tensor& input,
                         double allowed) {  // input (3, 299, 299)
    const auto compare = [&](const char* part, const at::Tensor& got) {
      const auto want = find_tensor(expected, prefix + part);
      if (!want.defined()) return;
      EXPECT_TRUE(testing::all_close(got.reshape(want.sizes()), want, {.absolute = allowed})) << prefix << part;
      ++compared;
    };
    using at::indexing::Slice;
    compare("grid", input.index({Slice(), Slice(at::indexing::None, at::indexing::None, 23),
                                 Slice(at::indexing::None, at::indexing::None, 23)}));
    compare("last_row", input.select(1, 298));
    compare("last_column", input.select(2, 298));
  };
  // LibTorch's interpolation rounds otherwise with several threads, in Python too.
  const double as_one_thread = at::get_num_threads() == 1 ? 0 : 2e-6;
  for (const auto& picture : pictures()) {
    auto values = at::empty({299, 299, 3}, at::kFloat);
    resize_as_tensorflow(picture.values, 299, values.mutable_data_ptr<float>());
    check(picture.label + "/torch_fidelity/", ((values - 128) / 128).permute({2, 0, 1}), 0);  // bitwise
    resize_as_pillow(picture.values, 299, values.mutable_data_ptr<float>());
    check(picture.label + "/clean_fid/", values.permute({2, 0, 1}), 5e-5);
    const auto unit = picture.values.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat).div(255).contiguous();
    check(picture.label + "/pytorch_fid/", (resize_half_pixel(unit, 299) * 2 - 1)[0], as_one_thread);
  }
  fmt::print("compared resize: {} tensors\n", compared);
  EXPECT_GE(compared, 18);
}

}  // namespace
}  // namespace nextscale
