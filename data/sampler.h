#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nextscale {

struct IndexRange {
  int64_t begin = 0, end = 0;
};

/// Pictures that rank `rank` of `ranks` validates (reference utils/data_sampler.py, EvalDistributedSampler): every
/// picture once, shares that differ by at most one.
IndexRange evaluation_range(int64_t pictures, int64_t ranks, int64_t rank);

struct TrainingOrderOptions {
  int64_t ranks = 1;
  int64_t rank = 0;
  int64_t pictures = 0;
  int64_t global_batch = 1;  ///< of all ranks; a multiple of `ranks`
  int64_t seed = 0;          ///< the same on all ranks
  int64_t repeats = 0;       ///< above 1: each picture that often in a row (repeated augmentation)
  bool fill_last = false;    ///< the last batch of an epoch is filled with the epoch's first pictures
  bool shuffle = true;
  int64_t start_epoch = 0;
};

/// The reference's endless order of training batches (DistInfiniteBatchSampler): each epoch a permutation seeded with
/// epoch + seed, cut into one run of pictures a rank. Its `start_it` never skips anything (it raises the epoch before
/// it compares), so there is none here.
class TrainingOrder {
 public:
  explicit TrainingOrder(const TrainingOrderOptions& options);

  int64_t batches_per_epoch() const;
  /// Indices of this rank's next batch; without fill_last the last one of an epoch may be shorter.
  std::vector<int64_t> next();

 private:
  std::vector<int64_t> run_of_epoch() const;

  TrainingOrderOptions options_;
  int64_t epoch_;
  size_t position_ = 0;
  std::vector<int64_t> run_;  // this rank's pictures of the epoch
};

}  // namespace nextscale
