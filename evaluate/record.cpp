#include "nextscale/evaluate/record.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <xxhash.h>

#include "nextscale/base/runtime.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

/// JSON has no NaN: null says that there is no number.
nlohmann::json number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

nlohmann::json set_json(const SetRecord& set) {
  nlohmann::json json = {{"path", set.path}, {"hash", set.hash}};
  if (set.count > 0) {
    json["pictures"] = set.count;
    json["height"] = set.height;
    json["width"] = set.width;
  }
  if (set.statistics) {
    json["statistics_of"] = set.statistics_count > 0 ? nlohmann::json(set.statistics_count) : nlohmann::json("unknown");
  }
  return json;
}

std::string value_text(double value) {
  const double shown = value < 0 && value > -1e-6 ? 0.0 : value;  // a rounding below zero is no distance
  const int digits = std::abs(shown) >= 100 ? 2 : std::abs(shown) >= 1 ? 3 : 5;
  return fmt::format("{:.{}f}", shown, digits);
}

std::string set_text(const SetRecord& set) {
  if (set.count > 0) return fmt::format("{} pictures of {} x {}", count_text(set.count), set.width, set.height);
  if (set.statistics_count > 0) return fmt::format("statistics of {} pictures", count_text(set.statistics_count));
  return "statistics of a file that does not say of how many pictures";
}

std::string resize_text(Resize resize) {
  switch (resize) {
    case Resize::tensorflow:
      return "TensorFlow 1 bilinear resize to 299";
    case Resize::half_pixel:
      return "half-pixel bilinear resize to 299";
    case Resize::pillow:
      return "Pillow's bicubic on floats to 299";
  }
  return {};
}

}  // namespace

std::string file_hash(const std::filesystem::path& path) {
  const auto file = map_file(path);
  const auto hash = XXH3_128bits(file.bytes.data(), file.bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

nlohmann::json metrics_json(const std::vector<Metric>& metrics) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& metric : metrics) {
    nlohmann::json entry = {{"value", number(metric.value)}};
    if (metric.interval) {
      entry["low"] = number(metric.interval->low);
      entry["high"] = number(metric.interval->high);
    }
    for (const auto& [name, value] : metric.further) entry[name] = number(value);
    json[metric.name] = entry;
  }
  return json;
}

std::string metrics_table(const std::vector<Metric>& metrics, bool ascii) {
  std::string text;
  size_t width = 0;
  for (const auto& metric : metrics) width = std::max(width, metric.title.size());
  for (const auto& metric : metrics) {
    text += fmt::format("{:<{}}  {:>12}", metric.title, width, value_text(metric.value));
    if (metric.interval) {
      text += fmt::format("  ({} {} {})", value_text(metric.interval->low), ascii ? "to" : "\u2013",
                          value_text(metric.interval->high));
    }
    for (const auto& [name, value] : metric.further) text += fmt::format("  {} {:.5g}", name, value);
    text += "\n";
  }
  return text;
}

std::string count_text(int64_t count) {
  auto text = std::to_string(count);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

nlohmann::json record_json(const EvaluationRecord& record) {
  nlohmann::json json = {{"format", "nextscale.evaluation"},
                         {"versions", versions_text()},
                         {"protocol", record.protocol.name},
                         {"tool", record.protocol.tool},
                         {"features", record.features},
                         {"weights", {{"path", record.weights_path}, {"hash", record.weights_hash}}},
                         {"generated", set_json(record.generated)},
                         {"reference", set_json(record.reference)},
                         {"metrics", metrics_json(record.result.metrics)},
                         {"settings", record.settings},
                         {"left_out", record.result.left_out},
                         {"warnings", record.result.warnings},
                         {"sentence", record_sentence(record)}};
  if (record.held_out) json["held_out"] = set_json(*record.held_out);
  if (!record.sampling.is_null()) json["sampling"] = record.sampling;
  return json;
}

std::string record_table(const EvaluationRecord& record, bool ascii) {
  std::string text = fmt::format("{} against {}\n", set_text(record.generated), set_text(record.reference));
  if (!record.comparison.empty()) text += record.comparison + "\n";
  text += fmt::format("protocol {}, {}\n\n", record.protocol.name, record.features);
  text += metrics_table(record.result.metrics, ascii);
  for (const auto& line : record.result.left_out) text += "left out: " + line + "\n";
  for (const auto& line : record.result.warnings) text += "warning: " + line + "\n";
  return text + "\n" + record_sentence(record) + "\n";
}

std::string record_sentence(const EvaluationRecord& record) {
  std::string numbers;
  for (const auto& metric : record.result.metrics) {
    numbers += fmt::format("{}{} {}", numbers.empty() ? "" : ", ", metric.title, value_text(metric.value));
    if (metric.interval) {
      numbers += fmt::format(" [{}, {}]", value_text(metric.interval->low), value_text(metric.interval->high));
    }
  }
  const bool inception = record.features.starts_with("FID-Inception");
  auto text = fmt::format(
      "{} (95 % intervals in brackets): {} against {}, {}, by {}{}", numbers, set_text(record.generated),
      set_text(record.reference), record.features, versions_text().substr(0, versions_text().find(',')),
      inception ? fmt::format(" with protocol {} ({})", record.protocol.name, resize_text(record.protocol.resize))
                : std::string());
  if (!record.comparison.empty()) text += "; " + record.comparison;
  if (!record.sampling.is_null()) {
    text += fmt::format("; sampled with guidance {}, top-k {}, top-p {}, seed {}",
                        record.sampling.at("guidance").get<std::string>(), record.sampling.at("top_k").dump(),
                        record.sampling.at("top_p").dump(), record.sampling.at("seed").dump());
  }
  return text + ".";
}

}  // namespace nextscale
