#include "nextscale/tests/support/fixtures.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/recipe.h"

namespace nextscale::testing {
namespace {

std::filesystem::path given_fixtures() {
  const char* given = std::getenv("NEXTSCALE_FIXTURES");
  return given != nullptr && *given != '\0' ? std::filesystem::path(given) : carried_fixtures();
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return nlohmann::json::parse(in);
}

const nlohmann::json& weight_list(const ParityCase& parity_case, const std::string& part) {
  return parity_case.json.at("weights").at(part);
}

}  // namespace

std::filesystem::path carried_fixtures() {
  return std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/parity/fixtures";
}

std::filesystem::path fixture_file(const std::string& relative) {
  const auto given = given_fixtures() / relative;
  return std::filesystem::exists(given) ? given : carried_fixtures() / relative;
}

nlohmann::json fixture_table(const std::string& relative) { return read_json_file(fixture_file(relative)); }

double ParityCase::tolerance(const std::string& tensor, double fallback) const {
  for (const char* table : {"tolerances", "noise"}) {
    if (!json.contains(table) || !json.at(table).contains(tensor)) continue;
    const auto& entry = json.at(table).at(tensor);
    if (entry.is_number()) return entry.get<double>();
    if (entry.contains("tolerance")) return entry.at("tolerance").get<double>();
    if (entry.value("exact", false)) return 0;
  }
  return fallback;
}

bool ParityCase::exact(const std::string& tensor) const {
  if (!json.contains("noise") || !json.at("noise").contains(tensor)) return false;
  const auto& entry = json.at("noise").at(tensor);
  return entry.is_object() && entry.value("exact", false);
}

NamedTensors ParityCase::weights(const std::string& part) const {
  const auto prefix = json.at("recipe_prefix").at(part).get<std::string>();
  NamedTensors weights;
  for (const auto& entry : weight_list(*this, part)) {
    if (!entry.contains("scale")) continue;
    const auto weight = entry.at("name").get<std::string>();
    weights.emplace_back(weight, recipe_tensor(prefix + weight, entry.at("shape").get<std::vector<int64_t>>(),
                                               entry.at("scale").get<double>(), entry.at("offset").get<double>()));
  }
  return weights;
}

std::vector<std::string> ParityCase::weight_names(const std::string& part) const {
  std::vector<std::string> names;
  for (const auto& entry : weight_list(*this, part)) names.push_back(entry.at("name").get<std::string>());
  return names;
}

at::Tensor ParityCase::pictures(const std::vector<int64_t>& chosen) const {
  auto bytes = tensor("input.pictures");  // (N, H, W, C) uint8
  if (!chosen.empty()) bytes = bytes.index_select(0, at::tensor(chosen, at::kLong));
  const auto x = bytes.permute({0, 3, 1, 2}).to(at::kFloat).contiguous() / 255;
  return x + x - 1;  // (N, C, H, W)
}

std::vector<ParityCase> parity_cases() {
  auto root = given_fixtures() / "var";
  if (!std::filesystem::is_directory(root)) root = carried_fixtures() / "var";
  std::vector<ParityCase> cases;
  if (std::filesystem::is_directory(root)) {
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      if (!std::filesystem::exists(entry.path() / "case.json")) continue;
      ParityCase found{entry.path().filename().string(), entry.path(), read_json_file(entry.path() / "case.json"), {}};
      found.expected = read_weights(entry.path() / "expected.safetensors").tensors;
      cases.push_back(std::move(found));
    }
  }
  if (cases.empty()) throw std::runtime_error("no parity case below " + root.string());
  std::sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return cases;
}

void Compared::check(const ParityCase& parity_case, const std::string& tensor, const at::Tensor& actual,
                     double fallback_tolerance) {
  if (!parity_case.has(tensor)) return;
  const double allowed = parity_case.exact(tensor) ? 0 : parity_case.tolerance(tensor, fallback_tolerance);
  EXPECT_TRUE(all_close(actual, parity_case.tensor(tensor), {.absolute = allowed}))
      << parity_case.name << ": " << tensor;
  ++in_case_;
}

void Compared::end_case(const ParityCase& parity_case) {
  std::printf("compared %s: %lld tensors\n", parity_case.name.c_str(), static_cast<long long>(in_case_));
  in_all_ += in_case_;
  in_case_ = 0;
}

Compared::~Compared() { EXPECT_GT(in_all_ + in_case_, 0) << "nothing was compared"; }

}  // namespace nextscale::testing
