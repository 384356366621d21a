#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"

namespace nextscale::testing {

/// Folder with fixtures: $NEXTSCALE_FIXTURES, or what the project carries (tests/parity/fixtures). A table or file that
/// is missing there comes from the project's own.
std::filesystem::path fixture_file(const std::string& relative);
std::filesystem::path carried_fixtures();
/// A JSON file of the fixtures.
nlohmann::json fixture_table(const std::string& relative);

/// One case folder: case.json and expected.safetensors.
struct ParityCase {
  std::string name;
  std::filesystem::path folder;
  nlohmann::json json;
  NamedTensors expected;

  const nlohmann::json& config() const { return json.at("config"); }
  bool has(const std::string& tensor) const { return find_tensor(expected, tensor).defined(); }
  at::Tensor tensor(const std::string& name) const { return find_tensor(expected, name); }
  /// Absolute tolerance of a tensor: table `tolerances` first, then `noise`; `fallback` where neither names it.
  double tolerance(const std::string& tensor, double fallback = 0) const;
  bool exact(const std::string& tensor) const;
  /// Recipe weights of "vae" or "var" in state-dict order; entries that constructors build are left out.
  NamedTensors weights(const std::string& part) const;
  /// Names of all entries of "vae" or "var", built ones included.
  std::vector<std::string> weight_names(const std::string& part) const;
  /// (N, C, H, W) float32 in [-1, 1] of input.pictures, chosen by index; empty = all.
  at::Tensor pictures(const std::vector<int64_t>& chosen = {}) const;
};

/// Found now, not at registration: every folder below $NEXTSCALE_FIXTURES/var, or the carried ones. Never empty
/// (throws).
std::vector<ParityCase> parity_cases();

/// Counts comparisons of one suite and case; prints "compared CASE: n tensors" and fails when a suite compared none.
class Compared {
 public:
  /// all_close with the case's own tolerance (exact where the case says so); counts. Missing tensors in the case are
  /// not counted.
  void check(const ParityCase& parity_case, const std::string& tensor, const at::Tensor& actual,
             double fallback_tolerance = 0);
  void count(int64_t n = 1) { in_case_ += n; }
  void end_case(const ParityCase& parity_case);
  /// EXPECTs that something was compared in all.
  ~Compared();

 private:
  int64_t in_case_ = 0, in_all_ = 0;
};

}  // namespace nextscale::testing
