// LPIPS and its parts with recipe weights, and squeezenet-ndf with the published ones, against a float64 run in Python
// that agrees with the lpips package.
#include "nextscale/networks/lpips.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/networks/squeezenet.h"
#include "nextscale/networks/squeezenet_ndf.h"
#include "nextscale/tests/support/perceptual.h"

namespace nextscale {
namespace {

using testing::relative_l2;
using testing::relative_to_largest;

constexpr double kValueTolerance = 1e-5, kGradientTolerance = 1e-4;  // the fixtures' own

class ParityLpips : public ::testing::Test {
 protected:
  explicit ParityLpips(const std::string& file = "lpips") : fixture_(file) {}
  /// Every stored quantity was compared with something.
  void expect_all_compared(const std::string& prefix) const {
    for (const auto& [name, tensor] : fixture_.all()) {
      EXPECT_TRUE(compared_.count(name) == 1 || !name.starts_with(prefix)) << name;
    }
  }

  at::Tensor input(const std::string& name) const {
    return fixture_.input(name.substr(std::string_view("perceptual/input/").size()));
  }
  NamedTensors weights(const std::string& network, const std::string& kind) const {
    auto weights = fixture_.weights(network);
    std::erase_if(weights, [&](const auto& entry) { return !entry.first.starts_with(kind); });
    return weights;
  }
  PerceptualDistance made(LpipsTrunk trunk, UnitForm unit) const {
    const auto network = trunk == LpipsTrunk::vgg16 ? "vgg16" : "squeezenet1_1";
    auto distance = make_lpips(trunk, unit);
    distance->load_trunk(weights(network, "features."), network);
    distance->load_heads(weights(network, "lin"), network);
    return distance;
  }
  std::pair<at::Tensor, at::Tensor> pictures(const std::string& name) const {
    const auto& row = fixture_.cases().at("lpips/" + name);
    const auto x0 = input(row.at("inputs")[0]), x1 = input(row.at("inputs")[1]);
    return {x0, row.at("x1_is") == "x1 itself" ? x1 : x0 + x1};
  }

  /// Undefined where the carried fixtures leave it out.
  at::Tensor expected(const std::string& name) const { return fixture_.expected(name); }
  void check_values(const std::string& name, const at::Tensor& actual) {
    ASSERT_TRUE(expected(name).defined()) << name;
    const auto off = relative_to_largest(actual, expected(name));
    EXPECT_LE(off, kValueTolerance) << name;
    say(name, off);
  }
  void check_gradient(const std::string& name, const at::Tensor& actual) {
    if (!expected(name).defined()) return;
    const auto off = relative_l2(actual, expected(name));
    EXPECT_LE(off, kGradientTolerance) << name;
    say(name, off);
  }
  void say(const std::string& name, double off) {
    compared_.insert(name);
    fmt::print("{}: {:.1e}\n", name, off);
  }

  void check_network(LpipsTrunk trunk, const std::string& network) {
    auto published = made(trunk, UnitForm::evaluation), training = made(trunk, UnitForm::training);
    for (const char* letter : {"a", "b", "c"}) {
      const auto name = network + "/" + letter + "/";
      SCOPED_TRACE(name);
      const auto [x0, x1] = pictures(network + "/" + letter);
      {
        const at::NoGradGuard no_grad;
        check_values(name + "distance", published(x0, x1));
        check_values(name + "layers", at::stack(published->layer_distances(x0, x1)));
        std::vector<at::Tensor> norms;
        for (const auto& map : published->taps(x0)) norms.push_back(map.norm());
        check_values(name + "feature_norms_x0", at::stack(norms));
      }
      const auto moved = x1.clone().requires_grad_();
      const auto distance = training(x0, moved);
      check_values(name + "distance_vaex_form", distance);
      distance.mean().backward();
      check_gradient(name + "grad_x1_of_mean", moved.grad());
    }
    expect_all_compared(network + "/");
  }

  testing::PerceptualFixture fixture_;
  std::set<std::string> compared_;
};

TEST_F(ParityLpips, OverVgg16) { check_network(LpipsTrunk::vgg16, "vgg16"); }

TEST_F(ParityLpips, OverSqueezeNet) { check_network(LpipsTrunk::squeezenet, "squeezenet1_1"); }

TEST_F(ParityLpips, UnitLengthOfSmallAndOfNoFeatures) {
  auto x = input("perceptual/input/lpips/unit/x");
  x.select(2, x.size(2) - 1).select(2, 0).zero_();
  x.requires_grad_();
  check_values("unit/lpips_form", unit_length(x, UnitForm::evaluation));
  const auto unit = unit_length(x, UnitForm::training);
  check_values("unit/vaex_form", unit);
  const auto coefficients = at::arange(1, x.size(1) + 1, at::kFloat).view({1, -1, 1, 1});
  (unit * coefficients).sum().backward();
  check_gradient("unit/vaex_form_grad_of_sum_(c+1)*y_c", x.grad());
  expect_all_compared("unit/");
}

TEST_F(ParityLpips, GradientWhereAllFeaturesAreZero) {
  const auto& row = fixture_.cases().at("lpips/zero_feature_gradient");
  const auto steep = row.at("vaex_form").get<std::vector<double>>();
  const auto gradient = [&](UnitForm form) {
    auto x = at::zeros({1, static_cast<int64_t>(steep.size()), 1, 1}).requires_grad_();
    unit_length(x, form).sum().backward();
    return x.grad().flatten();
  };
  EXPECT_LE(relative_to_largest(gradient(UnitForm::training), at::tensor(steep, at::kDouble)), kValueTolerance);
  ASSERT_TRUE(row.at("lpips_form_is_nan").get<bool>());
  EXPECT_TRUE(gradient(UnitForm::evaluation).isnan().all().item<bool>());
}

/// With the weights that two Python packages carry (scripts/registry-weights.sh). Heads over this trunk mean nothing:
/// they belong to another network and only show that the files arrive.
class ParitySqueezeNetNdf : public ParityLpips {
 protected:
  ParitySqueezeNetNdf() : ParityLpips("real_weights") {}
  void SetUp() override {
    const char* folder = std::getenv("NEXTSCALE_WEIGHTS");
    trunk_ = std::filesystem::path(folder == nullptr ? "" : folder) / kSqueezeNetNdfFile;
    heads_ = trunk_.parent_path() / lpips_files(LpipsTrunk::squeezenet).heads;
    for (const auto& path : {trunk_, heads_}) {
      if (!std::filesystem::exists(path)) {
        GTEST_SKIP() << "no published weights: $NEXTSCALE_WEIGHTS lacks " << path.filename();
      }
    }
  }
  /// Blurred noise and the same with more noise.
  std::pair<at::Tensor, at::Tensor> pictures(const std::string& name) const {
    const auto& row = fixture_.cases().at("real/" + name);
    const auto raw = input(row.at("x0"));
    auto sum = at::zeros_like(raw);
    for (int64_t down = 0; down < 4; ++down) {
      for (int64_t right = 0; right < 4; ++right) sum += raw.roll({down, right}, {2, 3});
    }
    const auto x0 = sum / 8;
    return {x0, x0 + input(row.at("delta"))};
  }

  std::filesystem::path trunk_, heads_;
};

TEST_F(ParitySqueezeNetNdf, UnweightedAndWithHeadsThatDoNotBelongToIt) {
  auto unweighted = load_squeezenet_ndf(trunk_);
  PerceptualDistance headed(std::make_shared<SqueezeNetImpl>(),
                            PerceptualDistanceOptions{.name = "mixed", .range = squeezenet_ndf_range()});
  headed->load_trunk(from_ndf(read_numpy_pickle(trunk_), "trunk"), "trunk");
  headed->load_heads(read_weights(heads_).tensors, "heads");
  for (const char* label : {"64", "nonsquare"}) {
    const auto name = std::string(label) + "/";
    const auto [x0, x1] = pictures(label);
    std::vector<at::Tensor> norms;
    for (const auto& map : unweighted->taps(x0)) norms.push_back(map.norm());
    check_values(name + "feature_norms_x0", at::stack(norms));
    check_values(name + "layers_with_lpips_v0.1_squeeze_heads", at::stack(headed->layer_distances(x0, x1)));
    check_values(name + "distance_with_heads", headed(x0, x1));
    check_values(name + "layers_unweighted", at::stack(unweighted->layer_distances(x0, x1)));
    const auto moved = x1.clone().requires_grad_();
    const auto distance = unweighted(x0, moved);
    check_values(name + "distance_unweighted", distance);
    distance.mean().backward();
    const auto first = name + "grad_x1_of_unweighted/first";
    check_gradient(first, moved.grad().flatten().slice(0, 0, expected(first).numel()));
    check_gradient(name + "grad_x1_of_unweighted/norm", moved.grad().norm());
  }
  expect_all_compared("");
}

TEST_F(ParitySqueezeNetNdf, PublishedHeadsAreThoseOfTheirDescription) {
  const auto heads = read_weights(heads_).tensors;
  ASSERT_EQ(heads.size(), 7u);
  int64_t values = 0, zeros = 0;
  for (const auto& [name, weight] : heads) {
    values += weight.numel();
    zeros += weight.eq(0).sum().item<int64_t>();
  }
  EXPECT_EQ(values, 2240);
  EXPECT_EQ(zeros, 119);
}

}  // namespace
}  // namespace nextscale
