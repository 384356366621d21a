#pragma once

#include <cstdint>
#include <optional>

#include "nextscale/base/options.h"
#include "nextscale/data/dataset.h"
#include "nextscale/evaluate/features.h"
#include "nextscale/evaluate/neighbours.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

struct QualityOptions {
  int64_t real_pictures = 5000;

  static constexpr auto table() {
    using O = QualityOptions;
    return std::tuple{
        option("real_pictures", &O::real_pictures,
               "real pictures a side of the Fréchet distance, and held-out pictures the tokenizer is measured on",
               at_least(2)),
    };
  }
};

/// What the tokenizer does to pictures it was not trained on.
struct TokenizerQuality {
  double psnr = 0;  ///< dB, mean over pictures; peak to peak is 2 in [-1, 1]
  int64_t codes_used = 0, codes = 0;
  int64_t pictures = 0;
  at::Tensor features;  ///< (pictures, feature_width) of the reconstructions, rounded to 8 bits as samples are
};

/// Samples beside real pictures, by the classifier's features. All Fréchet distances are exact and have the same side:
/// `real_count` training pictures. A distance grows as pictures get fewer, so reconstructions are as many as samples.
struct Quality {
  double accuracy = 0;  ///< of the classifier on all held-out pictures
  int64_t held_out_count = 0;
  int64_t real_count = 0, reconstructed_count = 0, sampled_count = 0;
  double real = 0;  ///< against as many other training pictures: the floor
  double sampled = 0;
  std::optional<double> reconstructed;  ///< held-out pictures through the tokenizer
  std::optional<TokenizerQuality> tokenizer;
  Memorisation memorisation;  ///< against all training pictures
  bool deficient = false;     ///< some set has fewer dimensions than features

  std::optional<double> ratio() const;  ///< sampled / reconstructed
};

/// @param tokenizer   may be empty
/// @param sampled     what the classifier said of the samples
/// @param seed        chooses which real pictures stand on a side
/// @throws Error failure: classes, side or channels of data, classifier and tokenizer differ; too few pictures
Quality measure_quality(Classifier& classifier, Tokenizer tokenizer, const Judged& sampled, const DataParts& parts,
                        const DataOptions& data, const QualityOptions& options, const JudgeSettings& settings,
                        uint64_t seed, bool quiet);

}  // namespace nextscale
