#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/scales.h"
#include "nextscale/var/layers.h"

namespace nextscale {

/// How the block-causal pattern (a position sees its own and all earlier scales) is computed. All give the same result.
enum class AttentionPath {
  automatic,    ///< what measured fastest (docs/benchmarks.md): accumulated on a CPU, grouped elsewhere
  dense,        ///< one call with the (L, L) mask: the reference's way, the others' twin in tests and bench
  prefix,       ///< one unmasked call per scale
  grouped,      ///< one small masked call for the first scales, then one unmasked call per scale
  written_out,  ///< matmul, + (L, L) mask, softmax, matmul
  accumulated,  ///< the grouped pieces written out, with a gradient of their own (var/accumulated_attention.h)
};

/// Queries [begin, end) see keys [0, end), minus what the mask hides.
struct AttentionPiece {
  int64_t begin = 0;
  int64_t end = 0;
  at::Tensor mask;  ///< (end - begin, end), 0 or -inf; undefined where the piece is one scale
};

struct AttentionPlan {
  AttentionPath path = AttentionPath::grouped;  ///< not automatic
  std::vector<AttentionPiece> pieces;           ///< in order, tiling the sequence
  /// Whether plain products do the work, which want contiguous queries, keys and values.
  bool by_products() const { return path == AttentionPath::written_out || path == AttentionPath::accumulated; }
};

/// @param scale_count the first scales only (progressive training)
/// @param options dtype and device of queries, keys and values
AttentionPlan plan_attention(const Scales& scales, int64_t scale_count, AttentionPath path,
                             const at::TensorOptions& options);

/// softmax(scale * q k^T) v over the plan's pieces.
/// @param q, k, v   (B, H, L, c)
/// @param dropout   probability of dropping an attention weight; 0 = none
/// @returns         (B, L, H * c)
torch::Tensor block_causal_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                     const AttentionPlan& plan, double scale, double dropout = 0,
                                     const std::optional<at::Generator>& generator = std::nullopt);

struct AttentionOptions {
  int64_t width;         // C
  int64_t heads;         // H
  bool l2_norm = true;   // unit q and k, q times a learned factor per head
  double scale = 0.0;    // without l2 norm, times 1/sqrt(c); 0 = the reference's 0.25
  double dropout = 0.0;  // of attention weights
  double projection_dropout = 0.0;
};

/// Multi-head self-attention (reference basic_var.py, SelfAttention).
class SelfAttentionImpl : public torch::nn::Module {
 public:
  SelfAttentionImpl(const AttentionOptions& options, at::Device device);

  /// Whole sequences. (B, L, C) -> (B, L, C)
  torch::Tensor forward(const torch::Tensor& x, const AttentionPlan& plan,
                        const std::optional<at::Generator>& generator);
  /// One scale of a growing sequence; its keys and values are written at [position, position + l).
  /// @param x            (B, l, C)
  /// @param keys, values (B, H, L, c), filled up to `position`; changed in place
  torch::Tensor step(const torch::Tensor& x, const torch::Tensor& keys, const torch::Tensor& values, int64_t position);
  void keep_matrices_in(at::ScalarType dtype);  ///< see Transformer::keep_matrices_in

 private:
  struct Projected {
    torch::Tensor q, k, v;  // (B, H, L, c)
  };
  Projected project(const torch::Tensor& x, bool contiguous) const;

  AttentionOptions options_;
  double scale_;
  torch::Tensor scale_mul_, q_bias_, v_bias_, zero_k_bias_;
  Linear mat_qkv_{nullptr}, proj_{nullptr};
};
TORCH_MODULE(SelfAttention);

}  // namespace nextscale
