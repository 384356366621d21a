#pragma once

#include <cstdint>
#include <optional>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/var/attention.h"
#include "nextscale/var/layers.h"

namespace nextscale {

struct FeedForwardOptions {
  int64_t width;         // C
  int64_t hidden;        // mlp_ratio * C
  double dropout = 0.0;  // probability
};

/// Two linear layers around tanh-GELU (reference basic_var.py, FFN). (B, L, C) -> (B, L, C).
class FeedForwardImpl : public torch::nn::Module {
 public:
  FeedForwardImpl(const FeedForwardOptions& options, at::Device device);
  torch::Tensor forward(const torch::Tensor& x, const std::optional<at::Generator>& generator);
  void keep_matrices_in(at::ScalarType dtype);  ///< see Transformer::keep_matrices_in

 private:
  FeedForwardOptions options_;
  Linear fc1_{nullptr}, fc2_{nullptr};
};
TORCH_MODULE(FeedForward);

/// What AdaLN makes of the condition, six tensors (B, 1, C): gates of the two branches, and scale (plus one) and shift
/// of the norm before each. All are views of one tensor or small; made once per forward, or once for all scales of
/// sampling.
struct Modulation {
  torch::Tensor gamma1, gamma2, scale1, scale2, shift1, shift2;
};

struct BlockOptions {
  AttentionOptions attention;
  FeedForwardOptions feed_forward;
  bool shared_aln = false;
  double norm_eps = 1e-6;
  double drop_path = 0.0;  // probability of skipping a branch for a picture
};

/// Attention and feed-forward, each behind an AdaLN and gated (reference basic_var.py, AdaLNSelfAttn).
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const BlockOptions& options, at::Device device);

  /// @param condition SiLU of the condition (B, C), or with shared AdaLN the shared projection's output (B, 1, 6, C)
  /// @param dtype     of the block's arithmetic
  Modulation modulation(const torch::Tensor& condition, at::ScalarType dtype) const;
  /// (B, L, C) -> (B, L, C)
  torch::Tensor forward(const torch::Tensor& x, const Modulation& modulation, const AttentionPlan& plan,
                        const std::optional<at::Generator>& generator);
  /// One scale with cached keys and values, see SelfAttention::step.
  torch::Tensor step(const torch::Tensor& x, const Modulation& modulation, const torch::Tensor& keys,
                     const torch::Tensor& values, int64_t position);
  void keep_matrices_in(at::ScalarType dtype);  ///< see Transformer::keep_matrices_in

 private:
  /// The gate times 1/keep or 0 for each picture (stochastic depth).
  torch::Tensor gate(const torch::Tensor& gamma, const std::optional<at::Generator>& generator) const;

  BlockOptions options_;
  torch::Tensor ada_gss_;
  SelfAttention attn_{nullptr};
  FeedForward ffn_{nullptr};
  ConditionProjection ada_lin_{nullptr};
};
TORCH_MODULE(Block);

}  // namespace nextscale
