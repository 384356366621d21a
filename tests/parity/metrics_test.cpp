// The metrics of five evaluators on feature sets made by the recipe (fixtures: evaluate/metrics.json). x is the
// reference, y the generated set.
#include <cmath>
#include <random>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/evaluate/frechet.h"
#include "nextscale/evaluate/inception_score.h"
#include "nextscale/evaluate/kernel_distance.h"
#include "nextscale/evaluate/manifold.h"
#include "nextscale/evaluate/numpy_order.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/recipe_features.h"

namespace nextscale {
namespace {

using nlohmann::json;
using testing::fixture_file;

json evaluate_table(const std::string& name) { return testing::fixture_table("evaluate/" + name); }
json feature_sets() { return evaluate_table("recipe.json").at("feature_sets"); }

/// Counts what was compared and fails where nothing was.
class Values {
 public:
  explicit Values(std::string suite) : suite_(std::move(suite)) {}
  void near(double actual, double expected, double relative, double absolute = 0) {
    EXPECT_LE(std::abs(actual - expected), relative * std::abs(expected) + absolute)
        << fmt::format("{} instead of {}", actual, expected);
    ++compared_;
  }
  void equal(bool same) {
    EXPECT_TRUE(same);
    ++compared_;
  }
  ~Values() {
    fmt::print("compared {}: {} values\n", suite_, compared_);
    EXPECT_GT(compared_, 0) << "nothing was compared";
  }

 private:
  std::string suite_;
  int64_t compared_ = 0;
};

/// Whether `drawn` begins with the expected indices: all of them from the full fixtures, the first of each where the
/// project carries no more.
bool begins_with(const std::vector<int64_t>& drawn, const json& expected) {
  const auto first = expected.get<std::vector<int64_t>>();
  return !first.empty() && first.size() <= drawn.size() && std::equal(first.begin(), first.end(), drawn.begin());
}

/// Indices by name as nested lists, complete or their beginnings.
json expected_orders() {
  const auto file = fixture_file("evaluate/metrics.safetensors");
  if (!std::filesystem::exists(file)) return evaluate_table("orders.json");
  json orders;
  for (const auto& [name, tensor] : read_weights(file).tensors) {
    if (tensor.dim() == 1) {
      orders[name] = std::vector<int64_t>(tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel());
      continue;
    }
    for (int64_t subset = 0; subset < tensor.size(0); ++subset) {
      for (int64_t side = 0; side < 2; ++side) {
        const auto row = tensor[subset][side].contiguous();
        orders[name][static_cast<size_t>(subset)][static_cast<size_t>(side)] =
            std::vector<int64_t>(row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + row.numel());
      }
    }
  }
  return orders;
}

TEST(ParityNumpyOrder, PermutationsAreNumpys) {
  Values values("permutations");
  const auto orders = expected_orders();
  for (const auto& [name, rows] :
       {std::pair{"permutation_2020", int64_t{503}}, {"permutation_2020_of_2000", int64_t{2000}}}) {
    std::mt19937 generator(2020);
    values.equal(begins_with(numpy_permutation(generator, rows), orders.at(std::string("inception_score/") + name)));
  }
}

KernelDistanceOptions kernel_options(const json& entry, const std::string& tool, const std::string& seed) {
  return {.subsets = entry.at("subsets").get<int64_t>(),
          .subset_size = entry.at("subset_size").get<int64_t>(),
          .seed = static_cast<uint32_t>(std::stoul(seed)),
          .draws = tool == "clean_fid" ? KernelDraws::second_then_first : KernelDraws::first_then_second};
}

TEST(ParityKernelDistance, SubsetsAreTheTools) {
  Values values("subsets");
  const auto metrics = evaluate_table("metrics.json").at("kid"), orders = expected_orders();
  const auto pairs = testing::recipe_feature_pairs(feature_sets());
  for (const auto& [set, entry] : metrics.items()) {
    for (const std::string tool : {"torch_fidelity", "clean_fid"}) {
      for (const auto& [seed, unused] : entry.at(tool).items()) {
        const auto& pair = pairs.at(set);
        const auto options = kernel_options(entry, tool, seed);
        const auto subsets = kernel_subsets(pair.reference.size(0), pair.generated.size(0), options);
        const auto& expected = orders.at("kid/" + set + "/" + tool + "/" + seed);
        ASSERT_EQ(subsets.size(), expected.size());
        for (size_t i = 0; i < subsets.size(); ++i) {
          // The tables' side 0 is the set that the tool draws first.
          const size_t of_first = options.draws == KernelDraws::first_then_second ? 0 : 1;
          values.equal(begins_with(subsets[i].first, expected[i][of_first]));
          values.equal(begins_with(subsets[i].second, expected[i][1 - of_first]));
        }
      }
    }
  }
}

TEST(ParityKernelDistance, ValuesAreTheTools) {
  Values values("kernel distances");
  const auto pairs = testing::recipe_feature_pairs(feature_sets());
  const auto metrics = evaluate_table("metrics.json").at("kid");
  for (const auto& [set, entry] : metrics.items()) {
    SCOPED_TRACE(set);
    const auto& [x, y] = pairs.at(set);
    for (const auto& [seed, expected] : entry.at("torch_fidelity").items()) {
      auto options = kernel_options(entry, "torch_fidelity", seed);
      const auto found = kernel_distance(x, y, options);
      values.near(found.value, expected.at("float64").at("mean"), 1e-9);
      values.near(found.deviation, expected.at("float64").at("std"), 1e-9);
      // The tool's kernel is float32: relative to the kernel's size, not to a difference that may be near 0.
      values.near(found.value, expected.at("mean"), 1e-5, 1e-6);
      values.near(found.deviation, expected.at("std"), 1e-5, 1e-6);
      options.subsets = 1;
      values.near(kernel_distance(x, y, options).value, expected.at("float64").at("first"), 1e-9);
    }
    for (const auto& [seed, expected] : entry.at("clean_fid").items()) {
      const auto found = kernel_distance(x, y, kernel_options(entry, "clean_fid", seed));
      values.near(found.value, expected.at("float64"), 1e-9);
      values.near(found.value, expected.at("value"), 1e-5, 1e-6);
    }
    values.near(kernel_distance_whole(x, y), entry.at("whole_sets_unbiased_float64"), 1e-9);
  }
}

void compare_parts(Values& values, const InceptionScore& found, const json& expected) {
  values.near(found.value, expected.at("float64").at("mean"), 1e-10);
  values.near(found.deviation, expected.at("float64").at("std"), 1e-10, 1e-12);
  values.near(found.value, expected.at("mean"), 1e-10);
  const auto& parts = expected.at("float64").at("parts");
  ASSERT_EQ(found.parts.size(), parts.size());
  for (size_t i = 0; i < parts.size(); ++i) values.near(found.parts[i], parts[i], 1e-10);
}

TEST(ParityInceptionScore, ScoresAreTheTools) {
  Values values("Inception Scores");
  const auto expected = evaluate_table("metrics.json").at("inception_score"), sets = feature_sets();
  for (const std::string set : {"sharp", "flat"}) {
    SCOPED_TRACE(set);
    const auto logits = testing::recipe_features(sets.at("logits_" + set));
    const auto& entry = expected.at(set);
    const auto splits = entry.at("splits").get<int64_t>();
    compare_parts(values, inception_score(logits, splits), entry.at("contiguous"));
    compare_parts(values, inception_score(shuffled_rows(logits, 2020), splits), entry.at("shuffled_2020"));
    for (const int64_t rows : {5000, 100}) {
      const auto& adm = entry.at(fmt::format("adm split {} (restated)", rows));
      const auto found = inception_score_of_rows(logits, rows);
      values.near(found.value, adm.at("float64"), 1e-10);
      values.near(found.value, adm.at("value"), 1e-6);  // float32 there
      ASSERT_EQ(found.parts.size(), adm.at("parts").size());
      for (size_t i = 0; i < found.parts.size(); ++i) values.near(found.parts[i], adm.at("parts")[i], 1e-6);
    }
  }
  const auto ordered = testing::recipe_features(sets.at("logits_class_order"));
  const auto shuffled = shuffled_rows(ordered, 2020);
  const auto& entry = expected.at("class_order");
  for (const auto& [found, name] : {std::pair{inception_score(ordered, 10), "10 contiguous parts"},
                                    {inception_score(shuffled, 10), "10 parts, shuffled_2020"},
                                    {inception_score(ordered, 1), "1 part"}}) {
    values.near(found.value, entry.at(name).at("mean"), 1e-10);
    values.near(found.deviation, entry.at(name).at("std"), 1e-10, 1e-12);
  }
  values.equal(comes_class_by_class(ordered));
  values.equal(!comes_class_by_class(shuffled));
}

TEST(ParityInceptionScore, IsOneForOneClassAndWhereProbabilitiesUnderflow) {
  const auto one = testing::recipe_features(feature_sets().at("logits_sharp")).slice(0, 0, 1).expand({40, 1008});
  EXPECT_NEAR(inception_score(one, 4).value, 1, 1e-12);
  auto underflow = at::zeros({40, 1008});
  underflow.select(1, 0).fill_(200);
  EXPECT_NEAR(inception_score(underflow, 4).value, 1, 1e-12);
  EXPECT_NEAR(inception_score(underflow * 100, 4).value, 1, 1e-12);  // below float64's smallest, too
}

FeatureStatistics statistics(const at::Tensor& rows) {
  FeatureStatistics found;
  found.add(rows);
  return found;
}

TEST(ParityFrechetDistance, ValuesAreTheToolsAndTheClosedForms) {
  Values values("Fréchet distances");
  const auto pairs = testing::recipe_feature_pairs(feature_sets());
  const auto metrics = evaluate_table("metrics.json").at("fid");
  for (const auto& [set, entry] : metrics.items()) {
    SCOPED_TRACE(set);
    const auto& [x, y] = pairs.at(set);
    const auto found = frechet_distance(x, y);
    values.near(found.value, entry.at("exact_float64"), 1e-8, 1e-11);
    if (entry.contains("closed_form")) values.near(found.value, entry.at("closed_form"), 1e-8, 1e-11);
    for (const auto& tool : {"pytorch_fid", "torch_fidelity", "clean_fid", "adm (restated)"}) {
      // Some of them fail at one column. Their means are float32, or the rows too few for a matrix root.
      if (entry.contains(tool) && entry.at(tool).is_number()) values.near(found.value, entry.at(tool), 0, 1e-4);
    }
    const auto by_statistics = frechet_distance(statistics(x), statistics(y));
    const bool full = !by_statistics.deficient();
    values.near(by_statistics.value, entry.at("exact_float64"), full ? 1e-8 : 0, full ? 1e-11 : 1e-4);
  }
}

TEST(ParityManifold, PrecisionAndRecallCountWhatTheToolsCount) {
  Values values("precision and recall");
  const auto pairs = testing::recipe_feature_pairs(feature_sets());
  const auto metrics = evaluate_table("metrics.json").at("precision_recall");
  for (const auto& [set, entry] : metrics.items()) {
    SCOPED_TRACE(set);
    const auto& [x, y] = pairs.at(set);
    const auto k = entry.at("k").get<int64_t>();
    for (const int64_t block : {64, 2048}) {
      const auto found = compare_manifolds(y, x, {.k = k, .block = block});
      values.equal(found.precision_count == entry.at("float64").at("precision_count"));
      values.equal(found.recall_count == entry.at("float64").at("recall_count"));
      values.near(found.precision, entry.at("float64").at("precision"), 1e-15);
      values.near(found.recall, entry.at("float64").at("recall"), 1e-15);
    }
    const auto found = compare_manifolds(y, x, {.k = k});
    for (const auto& tool : {"torch_fidelity", "torch_fidelity save_cpu_ram", "adm float32 (restated)"}) {
      values.near(found.precision, entry.at(tool).at("precision"), 1e-6);  // shares in float32
      values.near(found.recall, entry.at(tool).at("recall"), 1e-6);
    }
    const auto& half = entry.at("adm float16 (restated)");
    const auto in_half = compare_manifolds(y, x, {.k = k, .half = true});
    values.near(in_half.precision, half.at("precision"), 0, 0.02);  // float16 sums differ between devices
    values.near(in_half.recall, half.at("recall"), 0, 0.02);
  }
}

TEST(ParityManifold, DensityAndCoverageArePrdcs) {
  Values values("density and coverage");
  const auto pairs = testing::recipe_feature_pairs(feature_sets());
  const auto metrics = evaluate_table("metrics.json").at("prdc");
  for (const auto& [set, entry] : metrics.items()) {
    SCOPED_TRACE(set);
    const auto& [x, y] = pairs.at(set);
    for (const int64_t k : {3, 5}) {
      const auto found = compare_manifolds(y, x, {.k = k, .inside = Inside::open});
      for (const auto& by : {"prdc", "float64"}) {
        const auto& expected = entry.at(fmt::format("{} k={}", by, k));
        values.near(found.precision, expected.at("precision"), 1e-14);
        values.near(found.recall, expected.at("recall"), 1e-14);
        values.near(found.density, expected.at("density"), 1e-14);
        values.near(found.coverage, expected.at("coverage"), 1e-14);
      }
    }
  }
}

}  // namespace
}  // namespace nextscale
