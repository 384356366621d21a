#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

#include "nextscale/data/dataset.h"

namespace nextscale {

struct Batch {
  at::Tensor pictures;   ///< (B, channels, side, side) float32 in [-1, 1]
  at::Tensor labels;     ///< (B) int64
  at::Tensor indices;    ///< (B) int64, positions in the data set
  int64_t replaced = 0;  ///< pictures that took the place of ones that cannot be decoded (--skip-bad)
};

/// Endless training batches: every epoch a new order (randperm of derived_seed(seed, epoch)), the incomplete last batch
/// of an epoch is dropped. Crops and flips of a picture depend on (seed, epoch, index) alone, so neither the number of
/// workers nor resuming changes a picture.
class Loader {
 public:
  Loader(std::shared_ptr<const Dataset> dataset, const DataParts& parts, const DataOptions& options, int64_t batch,
         int64_t seed);
  ~Loader();

  int64_t batches_per_epoch() const;
  /// Batch of global step `step` (0-based): any step may be asked for; asking in order reads ahead.
  /// @throws Error failure of the picture that could not be read
  Batch batch(int64_t step);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// Pictures first … first+count-1 in order, with validation's resize and center crop (or none). For validation,
/// token caching and evaluation. `parts` says whether to resize.
Batch load_in_order(const Dataset& dataset, const DataParts& parts, const DataOptions& options, int64_t first,
                    int64_t count);
/// One picture as the training transform number `crop` makes it (token caches with --crops N): crop 0 … N-1, mirrored
/// if asked. (channels, side, side) float32 in [-1, 1]
at::Tensor load_training_view(const Dataset& dataset, const DataParts& parts, const DataOptions& options, int64_t index,
                              uint64_t view_seed, bool mirrored);

}  // namespace nextscale
