#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

namespace nextscale {

/// Takes unlikely codes out: top-k first, then top-p among what is left (reference `sample_with_top_k_top_p_`).
/// @param logits (.., V) float32
/// @param top_k  logits below the k-th largest go, ties with it stay; above V it means V; 0 = off
/// @param top_p  codes go where the cumulative probability, summed from the least likely, is at most 1 - top_p; the
///               likeliest always stays; 0 = off
/// @returns the same shape; -inf for codes that went. The argument itself where nothing is filtered
at::Tensor filter_logits(const at::Tensor& logits, int64_t top_k, double top_p);

/// One code a position by its probability. The numbers are those of `torch.multinomial` on the CPU with one sample a
/// row: argmax(p / q), q exponential. q is drawn on the CPU for logits on any device, so that a seed means the same.
/// @param logits (B, l, V) float32, filtered
/// @param generator CPU; B * l * V draws are taken
/// @returns (B, l) int64 on the logits' device
at::Tensor draw_tokens(const at::Tensor& logits, at::Generator& generator);

/// "Smooth" mode: instead of one code a mixture of all, by a Gumbel softmax whose temperature falls with the scales
/// (reference `gumbel_softmax_with_rng`, after MaskGIT). For pictures to look at; scores are worse.
/// @param logits (B, l, V) float32, filtered
/// @param ratio  k / (K - 1)
/// @param generator CPU; B * l * V draws are taken, after those of draw_tokens
/// @returns weights of the codes, (B, l, V), summing to 1
at::Tensor draw_mixture(const at::Tensor& logits, double ratio, at::Generator& generator);

/// `count` labels, all classes alike, with replacement (reference: `uniform_prob`).
/// @param classes number of classes; 0 = unconditional: -1 each, nothing is drawn
/// @returns (count) int64 on the CPU
at::Tensor draw_random_labels(int64_t count, int64_t classes, at::Generator& generator);

}  // namespace nextscale
