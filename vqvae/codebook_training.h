#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "nextscale/base/state_dict.h"
#include "nextscale/vqvae/residual_quantizer.h"

namespace nextscale {

struct Centres {
  at::Tensor centres, counts;  ///< (codes, C), (codes): how many vectors each stands for
};
/// Each centre at the mean of the vectors that are nearest to it; one without any stays. @param vectors (N, C)
Centres lloyd_step(const at::Tensor& vectors, const at::Tensor& centres, bool cosine);

/// Centres of `vectors` by Lloyd's algorithm, started at random vectors; a centre that loses all its vectors is put on
/// a random one. @param vectors (N, C) @returns (codes, C)
at::Tensor kmeans(const at::Tensor& vectors, int64_t codes, int64_t iterations, bool cosine, at::Generator& generator);

struct CodebookTrainingOptions {
  double decay = 0.99;              // of the running counts and sums
  double restart_below = 0.03;      // share of the mean running count below which a code is given up
  int64_t batches_kept = 8;         // for k-means
  int64_t vectors_per_scale = 512;  // kept of each scale and batch, so that the finest maps do not decide alone
  int64_t iterations = 10;          // of k-means
};

/// What keeps all codes of a quantizer in use without gradients: a start from data, a codebook that follows the running
/// mean of what each code stands for, and new places for codes that nothing falls to.
/// Which of them happen, and when, is the trainer's choice; all state is in state().
class CodebookTraining {
 public:
  /// For the running mean instead of gradients the caller sets `quantizer->codebook().set_requires_grad(false)`.
  CodebookTraining(ResidualQuantizer quantizer, const CodebookTrainingOptions& options);

  /// Keeps a random share of a batch's residuals for start_from_collected, the newest `batches_kept` batches.
  void collect(const std::vector<at::Tensor>& residuals, at::Generator& generator);
  /// Codebook = k-means of what was collected. @throws Error failure if nothing was
  void start_from_collected(at::Generator& generator);
  /// Running counts and sums of a batch; with `move`, each code goes to the mean of what it stands for.
  void update(const QuantizerOutput& quantized, bool move = true);
  /// Codes that fell below `restart_below` are put on random residuals of this batch, scale by scale alike.
  /// @returns (n) int64, the codes that moved: their optimizer state and EMA copy are stale
  at::Tensor restart(const std::vector<at::Tensor>& residuals, at::Generator& generator);

  /// counts (V), sums (V, C) and what was collected; shares storage, so a restore copies into it.
  NamedTensors state() const;

 private:
  std::vector<at::Tensor> some_of_each(const std::vector<at::Tensor>& residuals, at::Generator& generator) const;
  at::Tensor placed(const at::Tensor& vectors) const;

  ResidualQuantizer quantizer_;
  CodebookTrainingOptions options_;
  at::Tensor counts_, sums_;     // (V), (V, C)
  at::Tensor collected_;         // (K, batches_kept, vectors_per_scale, C)
  at::Tensor collected_counts_;  // (K, batches_kept) int64
  at::Tensor next_batch_;        // int64 scalar
};

}  // namespace nextscale
