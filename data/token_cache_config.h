#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nextscale {

/// What a token cache says of itself: the JSON text in its metadata "config".
struct TokenCacheConfig {
  int64_t views = 1;             ///< crops times mirrorings of each training picture
  std::string quantizer_config;  ///< JSON of QuantizerOptions
  std::string tokenizer_config;  ///< JSON of TokenizerOptions
  std::string tokenizer_hash;    ///< of all weights of the tokenizer (weights_hash)
  std::vector<std::string> class_names;
  std::string data_fingerprint;
  int64_t replaced = 0;  ///< pictures of both parts that could not be decoded and were stood in for (--skip-bad)
};

std::string token_cache_config_text(const TokenCacheConfig& config);
/// @param where names the file in errors
/// @throws Error failure: no JSON, an entry missing or of another type
TokenCacheConfig parse_token_cache_config(std::string_view text, const std::string& where);

}  // namespace nextscale
