#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/base/scales.h"

namespace nextscale {

/// Nearest code of each vector, float32 and rounded as in the reference: |z|^2 + |e|^2 - 2 z e, or the largest cosine.
/// The lowest index of equals.
/// @param vectors (N, Cvae) @param codebook (V, Cvae) @returns (N) int64
at::Tensor nearest_codes(const at::Tensor& vectors, const at::Tensor& codebook, bool cosine);

/// Each row at length one. @param x (N, C)
at::Tensor unit_rows(const at::Tensor& x);

/// A fresh codebook: uniform within 1 / (36 sqrt(Cvae)), small against features of width one, so that all codes stay in
/// reach while they grow (FoundationVision/vaex).
void start_codebook_uniform(at::Tensor codebook, at::Generator& generator);

/// How codes are used at each scale of a pyramid, over any number of pictures. The reference holds every scale against
/// the finest map's size, so that its 1x1 map can never show more than a few per cent; here each scale has a margin of
/// its own.
class CodeUsage {
 public:
  CodeUsage(const Scales& scales, int64_t codes);

  /// @param tokens (B, L) int64, or of the first scales only
  void add(const at::Tensor& tokens);
  void clear();

  const at::Tensor& counts() const { return counts_; }  ///< (K, V) int64, on the CPU
  /// Per scale, the share of codes with at least 0.08 of an even use of this scale, 0.08 * pictures * area_k / V.
  std::vector<double> used_shares() const;
  /// Per scale, exp of the entropy of use: as many codes used evenly would be as varied.
  std::vector<double> perplexities() const;
  double used_share() const;  ///< of all codes, those that any scale used at all
  double perplexity() const;  ///< over all scales together

 private:
  Scales scales_;
  at::Tensor counts_;
  std::vector<int64_t> pictures_;  // per scale
};

}  // namespace nextscale
