#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/intervals.h"

namespace nextscale {

/// exp of the mean divergence between what a classifier says of one picture and of all (Salimans et al. 2016): 1 where
/// it says the same of every picture, the number of classes at most.
///
/// It depends on the order of the rows where they come class by class, and on the number of rows in a part: a part's
/// mean over few rows is itself peaked, so the score grows with them.
struct InceptionScore {
  double value = 0;      ///< mean over the parts
  double deviation = 0;  ///< of the parts, divided by their number (numpy's std)
  std::vector<double> parts;
};

/// torch-fidelity's: part i is rows [i·N/parts, (i+1)·N/parts). Softmax and all sums in float64; a probability that
/// underflows counts as 0·log 0 = 0.
/// @param logits (N, classes); which of the network's logits (with or without bias) is the caller's protocol
/// @throws Error failure unless 1 <= parts <= N; values that are not finite
InceptionScore inception_score(const at::Tensor& logits, int64_t parts);

/// ADM's: consecutive blocks of rows_a_part rows; the last may be shorter and weighs as much as the others.
/// @throws Error failure unless rows_a_part >= 1; values that are not finite
InceptionScore inception_score_of_rows(const at::Tensor& logits, int64_t rows_a_part);

/// rows[RandomState(seed).permutation(N)], as torch-fidelity shuffles (its seed is 2020).
at::Tensor shuffled_rows(const at::Tensor& rows, uint32_t seed);

/// Whether consecutive rows are of the same predicted class far more often than in random order: then a score of
/// consecutive parts is too low by any factor, and the set should be shuffled first. The share of equal neighbours must
/// exceed what a random order of the same predictions gives (Σ n_c(n_c - 1) / N(N - 1)) by six standard deviations and
/// by a tenth of the room above it. False below 20 rows.
/// @param logits (N, classes)
bool comes_class_by_class(const at::Tensor& logits);

/// 95 % interval of the same scores. Rows are drawn again with replacement within each part; since a drawn part repeats
/// rows, its score lies lower than the part's, and so the resamples say how far scores spread and not where:
/// their percentiles are scaled to have the score itself as their mean.
/// @param resamples one (resamples, rows of a part) matrix of counts times the probabilities, block by block
/// @throws Error failure as above; resamples below 40
Interval inception_score_interval(const at::Tensor& logits, int64_t parts, uint64_t seed, int64_t resamples = 200);
Interval inception_score_of_rows_interval(const at::Tensor& logits, int64_t rows_a_part, uint64_t seed,
                                          int64_t resamples = 200);

}  // namespace nextscale
