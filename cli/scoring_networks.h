#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

#include <c10/core/Device.h>

#include "nextscale/base/options.h"
#include "nextscale/evaluate/feature_network.h"
#include "nextscale/evaluate/picture_set.h"
#include "nextscale/evaluate/protocol.h"

namespace nextscale::cli {

/// How pictures are scored; on `evaluate` and on `sample --evaluate`.
struct ScoringOptions {
  std::string protocol = "adm";
  std::string features = "inception";
  std::string weights;
  std::string classifier;
  std::string held_out;
  std::string class_index;
  std::string json;
  std::string report;
  std::string save_statistics;
  int64_t side = 0;
  double mid_reso = 1.125;
  int64_t scoring_batch = 32;
  int64_t workers = 2;

  static constexpr auto table() {
    using O = ScoringOptions;
    return std::tuple{
        option("protocol", &O::protocol, "whose numbers: everything that differs between the field's tools",
               one_of("adm", "torch-fidelity", "clean-fid", "pytorch-fid")),
        option("features", &O::features,
               "inception (FID), efficientnet-lite0 or classifier (Fréchet "
               "distances that are not FID)",
               one_of("inception", "efficientnet-lite0", "classifier")),
        option("weights", &O::weights,
               "file of the network's weights (scripts/download-weights.sh, "
               "scripts/registry-weights.sh); empty = its "
               "usual name in the folder $NEXTSCALE_WEIGHTS"),
        option("classifier", &O::classifier,
               "a run of train-classifier, or its file: class accuracy, and "
               "the features of --features classifier"),
        option("held_out", &O::held_out,
               "real pictures that are not in the reference: memorisation's "
               "baseline; else the reference against itself"),
        option("class_index", &O::class_index,
               "file with index, folder and name of each class, for class "
               "folders"),
        option("json", &O::json, "file for all numbers, settings, hashes and versions"),
        option("report", &O::report,
               "HTML file, one self-contained page: numbers, settings, "
               "samples, neighbours"),
        option("save_statistics", &O::save_statistics,
               "npz file for mean and covariance of the reference's pictures "
               "(without --reference: of the generated "
               "ones), to be a --reference later"),
        option("side", &O::side,
               "pictures of another size are resized and center-cropped to "
               "this side, on both sides; 0 = "
               "as they are",
               between(0, 4096)),
        option("mid_reso", &O::mid_reso, "shorter side before that crop, in sides", between(1.0, 4.0)),
        option("scoring_batch", &O::scoring_batch, "pictures that the network sees at once", between(1, 4096)),
        option("workers", &O::workers, "threads that decode and resize pictures", between(0, 256)),
    };
  }
  CropSettings crop() const { return {.side = side, .mid_reso = mid_reso}; }
};

/// Path of the network's weights: --weights, else the usual name in $NEXTSCALE_WEIGHTS; --classifier for a classifier.
/// @throws Error usage saying which file is missing and which command fetches it
std::string find_weights(const ScoringOptions& options);
std::unique_ptr<FeatureNetwork> open_network(const ScoringOptions& options, const std::string& weights,
                                             const Protocol& protocol, c10::Device device);

}  // namespace nextscale::cli
