#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "nextscale/evaluate/evaluation.h"

namespace nextscale {

/// A set as it was scored.
struct SetRecord {
  std::string path;
  int64_t count = 0;  ///< pictures that were looked at; 0 where only statistics were
  int64_t height = 0, width = 0;
  std::string hash;  ///< XXH3-128 of the pixels, or of the statistics' file
  bool statistics = false;
  int64_t statistics_count = 0;  ///< pictures behind the statistics, 0 = the file does not say
};

/// Everything that somebody needs to make the numbers again.
struct EvaluationRecord {
  Evaluation result;
  Protocol protocol;
  std::string features;                    ///< the network
  std::string weights_path, weights_hash;  ///< XXH3-128 of the file
  SetRecord generated, reference;
  std::optional<SetRecord> held_out;
  nlohmann::json settings = nlohmann::json::object();
  nlohmann::json sampling;  ///< null where the pictures came from a file
  std::string comparison;   ///< what else a reader must know: "reconstructions … of the same crops"
};

/// XXH3-128 of a file's bytes. @throws Error failure naming it
std::string file_hash(const std::filesystem::path& path);

/// Values by name, with intervals and what belongs to them; null where there is no number.
nlohmann::json metrics_json(const std::vector<Metric>& metrics);
/// A line a number. @param ascii no characters beyond ASCII
std::string metrics_table(const std::vector<Metric>& metrics, bool ascii);
/// "12,345"
std::string count_text(int64_t count);

/// docs/evaluation.md lists the keys.
nlohmann::json record_json(const EvaluationRecord& record);
/// For people: a line a number, then warnings. @param ascii no characters beyond ASCII
std::string record_table(const EvaluationRecord& record, bool ascii);
/// For a paper.
std::string record_sentence(const EvaluationRecord& record);

/// Pictures of the report, fetched when they are needed: (H, W, 3) uint8.
struct ReportPictures {
  std::function<at::Tensor(int64_t)> generated, reference;
};
/// One self-contained page: table, settings, samples, nearest neighbours.
std::string record_report(const EvaluationRecord& record, const ReportPictures& pictures);

}  // namespace nextscale
