#include "nextscale/evaluate/tokenizer_record.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "nextscale/base/runtime.h"
#include "nextscale/evaluate/record.h"

namespace nextscale {
namespace {

/// One scale of the pyramid, as it was used.
struct ScaleLine {
  std::string map;  // "3x3"
  int64_t tokens = 0;
  std::optional<double> psnr;
  double used_share = 0, margin = 0, perplexity = 0;
  int64_t reachable = 0;  // codes that so many tokens can name at most
};

std::vector<ScaleLine> scale_lines(const TokenizerRecord& record) {
  const auto psnr = record.quality.psnr_per_scale();
  const auto shares = record.quality.usage().used_shares(), perplexities = record.quality.usage().perplexities();
  std::vector<ScaleLine> lines;
  for (int64_t k = 0; k < record.scales.count(); ++k) {
    const auto at = static_cast<size_t>(k);
    const auto& map = record.scales.map(k);
    const int64_t hits = record.quality.pictures() * record.scales.area(k);
    ScaleLine line{.map = fmt::format("{}x{}", map.height, map.width),
                   .tokens = record.scales.area(k),
                   .psnr = {},
                   .used_share = shares[at],
                   .margin = 0.08 * static_cast<double>(hits) / static_cast<double>(record.codes),
                   .perplexity = perplexities[at],
                   .reachable = std::min(hits, record.codes)};
    if (!psnr.empty()) line.psnr = psnr[at];
    lines.push_back(line);
  }
  return lines;
}

nlohmann::json changed_json(const ChangedTokens& changed) {
  nlohmann::json json = {{"share", changed.share()}, {"changed", changed.changed}, {"tokens", changed.tokens}};
  if (changed.interval) {
    json["low"] = changed.interval->low;
    json["high"] = changed.interval->high;
  }
  return json;
}

std::vector<Metric> all_metrics(const TokenizerRecord& record) {
  auto metrics = record.quality.metrics();
  if (record.distance) metrics.push_back(record.distance->metric);
  return metrics;
}

std::string comparison(const ReconstructionDistance& distance) {
  return fmt::format("{}: reconstructions against the very crops they were made of; {}, protocol {}",
                     distance.metric.title, distance.features, distance.protocol);
}

std::string per_cent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// A line a scale, and one of all together.
std::string scale_table(const TokenizerRecord& record) {
  const auto row = [](const std::string& map, const std::string& tokens, const std::string& psnr,
                      const std::string& used, const std::string& perplexity) {
    return fmt::format("{:<8}{:>7}{:>8}{:>9}{:>12}", map, tokens, psnr, used, perplexity);
  };
  const auto disturbances =
      record.stability.pictures() > 0 ? record.stability.disturbances() : std::vector<Disturbance>();
  std::string text = row("scale", "tokens", "PSNR", "used", "perplexity");
  for (const auto& one : disturbances) text += fmt::format("{:>10}", one.name);
  text += "\n";
  const auto lines = scale_lines(record);
  for (size_t k = 0; k < lines.size(); ++k) {
    const auto& line = lines[k];
    text += row(line.map, std::to_string(line.tokens), line.psnr ? fmt::format("{:.2f}", *line.psnr) : "",
                per_cent(line.used_share), fmt::format("{:.1f}", line.perplexity));
    for (const auto& one : disturbances) text += fmt::format("{:>10}", per_cent(one.scales[k].share()));
    text += "\n";
  }
  const auto& usage = record.quality.usage();
  text += row("all", std::to_string(record.scales.length()), "", per_cent(usage.used_share()),
              fmt::format("{:.1f}", usage.perplexity()));
  for (const auto& one : disturbances) text += fmt::format("{:>10}", per_cent(one.all.share()));
  return text + "\n";
}

/// What the columns are.
std::string legend(const TokenizerRecord& record) {
  std::string text;
  if (record.quality.pictures_per_scale() > 0) {
    text += fmt::format("PSNR: decoded from the scales up to this one, {} pictures\n",
                        count_text(record.quality.pictures_per_scale()));
  }
  text += fmt::format(
      "used: of {} codes those with at least 0.08 of an even share of this scale's own tokens; all: used at any "
      "scale\n",
      count_text(record.codes));
  text += "perplexity: so many codes, used evenly, would be as varied\n";
  if (record.stability.pictures() == 0) return text;
  text += fmt::format("share of tokens that change, {} pictures:\n", count_text(record.stability.pictures()));
  for (const auto& one : record.stability.disturbances()) {
    text +=
        fmt::format("  {}: {}{}\n", one.name, one.what,
                    one.name == "shift" ? " (fine scales must change: their tokens stand for other pixels then)" : "");
  }
  return text;
}

}  // namespace

nlohmann::json tokenizer_record_json(const TokenizerRecord& record) {
  const auto& usage = record.quality.usage();
  nlohmann::json scales = nlohmann::json::array();
  for (const auto& line : scale_lines(record)) {
    scales.push_back({{"map", line.map},
                      {"tokens", line.tokens},
                      {"psnr", line.psnr ? nlohmann::json(*line.psnr) : nlohmann::json(nullptr)},
                      {"used_share", line.used_share},
                      {"margin", line.margin},
                      {"reachable_codes", line.reachable},
                      {"perplexity", line.perplexity}});
  }
  nlohmann::json stability = {{"pictures", record.stability.pictures()}};
  if (record.stability.pictures() > 0) {
    for (const auto& one : record.stability.disturbances()) {
      nlohmann::json changed = nlohmann::json::array();
      for (const auto& scale : one.scales) changed.push_back(changed_json(scale));
      stability[one.name] = {{"what", one.what}, {"scales", changed}, {"all", changed_json(one.all)}};
    }
  }
  nlohmann::json json = {
      {"format", "nextscale.tokenizer_evaluation"},
      {"versions", versions_text()},
      {"tokenizer",
       {{"path", record.tokenizer}, {"hash", record.tokenizer_hash}, {"options", record.tokenizer_options}}},
      {"pictures",
       {{"part", record.part},
        {"count", record.quality.pictures()},
        {"of", record.part_size},
        {"height", record.side},
        {"width", record.side},
        {"channels", record.channels},
        {"cut", record.cut}}},
      {"metrics", metrics_json(all_metrics(record))},
      {"codebook",
       {{"codes", record.codes},
        {"used", std::llround(usage.used_share() * static_cast<double>(record.codes))},
        {"used_share", usage.used_share()},
        {"perplexity", usage.perplexity()}}},
      {"scales", scales},
      {"pictures_per_scale", record.quality.pictures_per_scale()},
      {"stability", stability},
      {"settings", record.settings},
      {"left_out", record.left_out},
      {"warnings", record.warnings}};
  if (record.distance) {
    const auto& distance = *record.distance;
    json["distance"] = {{"metric", distance.metric.name},
                        {"comparison", comparison(distance)},
                        {"features", distance.features},
                        {"weights", {{"path", distance.weights_path}, {"hash", distance.weights_hash}}},
                        {"protocol", distance.protocol},
                        {"reference_hash", distance.reference_hash},
                        {"generated_hash", distance.generated_hash}};
  }
  return json;
}

std::string tokenizer_record_table(const TokenizerRecord& record, bool ascii) {
  auto text = fmt::format("{}: {} of {} {} pictures of {} x {}, {}\n\n", record.tokenizer,
                          count_text(record.quality.pictures()), count_text(record.part_size),
                          record.part == "val" ? "held-out" : "training", record.side, record.side, record.cut);
  text += metrics_table(all_metrics(record), ascii);
  for (const auto& line : record.left_out) text += "not computed: " + line + "\n";
  text += "L1 is of values in [-1, 1], PSNR and SSIM of pictures rounded to 8 bits, as they are saved\n";
  if (record.distance) text += comparison(*record.distance) + "\n";
  text += "\n" + scale_table(record) + "\n" + legend(record);
  for (const auto& line : record.warnings) text += "warning: " + line + "\n";
  return text;
}

}  // namespace nextscale
