#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/data/dataset.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// Views of each training picture in a cache. Held-out pictures are always seen once, as validation crops them.
struct TokenCachingOptions {
  int64_t crops = 0;
  int64_t batch = 0;

  static constexpr auto table() {
    using O = TokenCachingOptions;
    return std::tuple{
        option("crops", &O::crops, "random crops of each training picture; 0 = one view, the crop of validation",
               between(0, 4096)),
        option("batch", &O::batch, "pictures encoded at once; 0 = what fits the tokenizer", between(0, 1 << 20)),
    };
  }
};

/// @throws Error usage: --crops where pictures are not cropped
void check_together(const TokenCachingOptions& options, const DataParts& parts);

struct TokenCachingCalls {
  std::function<void(int64_t done)> progress{};  ///< pictures (views) encoded so far
  std::function<bool()> stop{};                  ///< asked between batches
};

/// Views in all: what `progress` counts to.
int64_t token_caching_total(const TokenCachingOptions& options, const DataParts& parts, const DataOptions& data);

/// Encodes all pictures. View v of a picture is crop v / mirrorings, mirrored if v % mirrorings == 1, where mirrorings
/// is 2 with data.hflip. A crop depends on (seed, crop, picture) alone.
/// @param data `workers` threads read pictures
/// @param dtype of the tokenizer's convolutions
/// @returns nothing if `stop` asked for an end
/// @throws Error usage where the tokenizer takes pictures of another size; failure naming a picture
std::optional<TokenCache> cache_tokens(Tokenizer tokenizer, const DataParts& parts, const DataOptions& data,
                                       const TokenCachingOptions& options, int64_t seed, torch::Device device,
                                       torch::ScalarType dtype, const TokenCachingCalls& calls = {});

}  // namespace nextscale
