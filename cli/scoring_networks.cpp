#include "nextscale/cli/scoring_networks.h"

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

struct PublishedFile {
  const char* name;
  const char* command;
};

PublishedFile published_file(const std::string& features) {
  if (features == "inception") {
    return {"pt_inception-2015-12-05-6726825d.pth",
            "scripts/download-weights.sh FOLDER "
            "pt_inception-2015-12-05-6726825d.pth"};
  }
  return {"efficientnet-lite0-57934424.pth", "scripts/registry-weights.sh FOLDER"};
}

/// --weights, else the usual name in $NEXTSCALE_WEIGHTS. @throws Error usage
/// saying which file and how to get it

}  // namespace

std::string find_weights(const ScoringOptions& options) {
  if (options.features == "classifier") {
    if (options.classifier.empty()) {
      throw usage({.where = "--classifier", .what = "is missing: --features classifier takes its features"});
    }
    if (!options.weights.empty()) {
      throw usage({.where = "--weights", .what = "goes with published networks; --classifier names the classifier"});
    }
    return options.classifier;
  }
  if (!options.weights.empty()) return options.weights;
  const auto file = published_file(options.features);
  if (const char* folder = std::getenv("NEXTSCALE_WEIGHTS"); folder != nullptr && *folder != '\0') {
    const auto path = fs::path(folder) / file.name;
    if (fs::exists(path)) return path.string();
  }
  throw usage({.where = "--weights",
               .what = fmt::format("is missing: --features {} needs {}, which '{}' fetches", options.features,
                                   file.name, file.command)});
}

std::unique_ptr<FeatureNetwork> open_network(const ScoringOptions& options, const std::string& weights,
                                             const Protocol& protocol, c10::Device device) {
  if (options.features == "inception") return open_inception(weights, protocol, device);
  if (options.features == "efficientnet-lite0") return open_efficientnet_lite0(weights, device);
  return open_classifier(options.classifier, device);
}

}  // namespace nextscale::cli
