#include "nextscale/evaluate/metric_options.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr std::array<const char*, 8> kMetrics{"fid", "sfid", "is", "kid", "pr", "prdc", "memorisation", "accuracy"};

}  // namespace

std::vector<std::string> wanted_metrics(const MetricOptions& options, const Protocol& protocol) {
  std::set<std::string> wanted;
  for (const auto& word : options.metrics) {
    if (word == "all") {
      wanted.insert(protocol.metrics.begin(), protocol.metrics.end());
      wanted.insert({"prdc", "memorisation", "accuracy"});
    } else if (std::find(kMetrics.begin(), kMetrics.end(), word) == kMetrics.end()) {
      throw usage({"--metrics", "is unknown", fmt::format("{} or all", fmt::join(kMetrics, ", ")), "'" + word + "'"});
    } else {
      wanted.insert(word);
    }
  }
  std::vector<std::string> ordered;
  for (const char* name : kMetrics) {
    if (wanted.count(name) > 0) ordered.emplace_back(name);
  }
  return ordered;
}

}  // namespace nextscale
