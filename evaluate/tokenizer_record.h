#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nextscale/evaluate/evaluation.h"
#include "nextscale/evaluate/reconstructions.h"
#include "nextscale/evaluate/token_stability.h"

namespace nextscale {

/// A Fréchet distance of the reconstructions from the very crops they were made of: rFID and its kin.
struct ReconstructionDistance {
  Metric metric;
  std::string features;                    ///< the network
  std::string weights_path, weights_hash;  ///< XXH3-128 of the file
  std::string protocol;
  std::string reference_hash, generated_hash;  ///< XXH3-128 of the pixels
};

/// Everything that a tokenizer's evaluation found, and what somebody needs to find it again.
struct TokenizerRecord {
  std::string tokenizer, tokenizer_hash;  ///< path; XXH3-128 of all weights, as token caches name it
  nlohmann::json tokenizer_options = nlohmann::json::object();
  std::string part;       ///< val or train
  int64_t part_size = 0;  ///< pictures in it
  int64_t side = 0, channels = 0;
  std::string cut;    ///< what was done to pictures: "as they are"
  int64_t codes = 0;  ///< V
  const Scales& scales;
  const ReconstructionQuality& quality;
  const TokenStability& stability;
  std::optional<ReconstructionDistance> distance;
  nlohmann::json settings = nlohmann::json::object();
  std::vector<std::string> left_out, warnings;
};

/// docs/eval-tokenizer.md lists the keys.
nlohmann::json tokenizer_record_json(const TokenizerRecord& record);
/// For people: metrics, then a line a scale, then what the columns mean. @param ascii no characters beyond ASCII
std::string tokenizer_record_table(const TokenizerRecord& record, bool ascii);

}  // namespace nextscale
