#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "nextscale/data/dataset.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/vqvae/residual_quantizer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// What one step of the transformer eats, on its device.
struct TokenBatch {
  torch::Tensor labels;  ///< (B) int64; 0 where there are no classes
  torch::Tensor tokens;  ///< (B, L) int64
  torch::Tensor inputs;  ///< (B, L - l_0, Cvae) float32, teacher forcing
  int64_t replaced = 0;  ///< pictures that stood in for ones that cannot be decoded
};

/// Where the transformer's batches come from. A batch depends on seed and step alone, so a resumed run needs no state.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  virtual const QuantizerOptions& quantizer() const = 0;
  virtual int64_t pictures() const = 0;  ///< training pictures in an epoch
  virtual int64_t held_out() const = 0;  ///< held-out pictures
  /// Training batch of a step (0-based): every epoch a new order, the incomplete last batch is dropped.
  virtual TokenBatch batch(int64_t step) = 0;
  /// Chosen held-out or (seen without augmentation) training pictures. @param indices (n) int64
  virtual TokenBatch held_out_batch(const torch::Tensor& indices) = 0;
  virtual TokenBatch training_batch(const torch::Tensor& indices) = 0;
  /// Why pictures met so far cannot be decoded.
  virtual std::vector<std::string> data_faults() const { return {}; }
};

/// From a token cache held in memory. An epoch is one pass over the pictures: randperm of derived_seed(seed, epoch), as
/// the loader orders pictures; where the cache has several views of a picture, one of them is drawn.
/// @throws Error usage if the batch is larger than the data; failure if the cache's quantizer cannot be built
std::unique_ptr<TokenSource> tokens_from_cache(TokenCache cache, int64_t batch, int64_t seed, torch::Device device);

/// Straight from pictures, encoded in every step with the loader's crops and flips.
/// @param dtype of the tokenizer's convolutions
std::unique_ptr<TokenSource> tokens_from_pictures(Tokenizer tokenizer, const DataParts& parts,
                                                  const DataOptions& options, int64_t batch, int64_t seed,
                                                  torch::Device device, torch::ScalarType dtype);

/// The quantizer that a token cache carries, in evaluation mode. @throws Error failure if it is damaged
ResidualQuantizer quantizer_of(const TokenCache& cache);

/// `count` different numbers below `size` (all of them if fewer), the same in every run: the pictures that validation
/// looks at. (n) int64
torch::Tensor fixed_subset(int64_t size, int64_t count);

}  // namespace nextscale
