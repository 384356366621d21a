#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace nextscale {

/// x W^T + b. Unlike torch::nn::Linear it goes through at::linear, so that autocast casts the weight once per guard and
/// not once per call, and its values are zero until they are initialised or loaded: no draw from a global generator.
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, bool bias, at::Device device);
  torch::Tensor forward(const torch::Tensor& x) const;
  /// forward(gelu_tanh(h)), on the CPU without keeping gelu(h) for the backward pass. Needs a bias.
  torch::Tensor forward_gelu(const torch::Tensor& h) const;
  /// (out, in), what a product takes: the parameter, or its rounded copy where that is in use.
  const torch::Tensor& weight() const;
  /// Rounds weight and bias for good, so that autocast to this type has nothing to cast.
  void keep_in(at::ScalarType dtype);
  /// From now on autocast to `dtype` takes a rounded copy of the weight instead of casting it anew, and the copy gets
  /// the gradient, in its type. It follows the weight when something changes that.
  /// @returns the copy, a leaf; whoever steps the weight past autograd's knowledge rounds into it (AdamW::use_rounded)
  torch::Tensor round_for_training(at::ScalarType dtype);

 private:
  torch::Tensor weight_, bias_;
  mutable torch::Tensor rounded_;
  mutable uint32_t rounded_version_ = 0;  // of the weight when the copy was made
};
TORCH_MODULE(Linear);

/// Rows chosen by index: (N) int64 -> (N, C).
class EmbeddingImpl : public torch::nn::Module {
 public:
  EmbeddingImpl(int64_t rows, int64_t width, at::Device device);
  torch::Tensor forward(const torch::Tensor& indices) const;

 private:
  torch::Tensor weight_;
};
TORCH_MODULE(Embedding);

/// The linear layer behind a SiLU; registered as "1", the place it has in the reference's nn.Sequential.
/// SiLU(condition) is the same for every block, so the caller applies it once.
class ConditionProjectionImpl : public torch::nn::Module {
 public:
  /// @param parts outputs per condition, each `width` wide: (B, width) -> (B, 1, parts, width)
  ConditionProjectionImpl(int64_t width, int64_t parts, at::Device device);
  torch::Tensor forward(const torch::Tensor& activated_condition) const;

 private:
  int64_t parts_;
  Linear linear_{nullptr};
};
TORCH_MODULE(ConditionProjection);

/// 1/keep with probability `keep`, else 0; drawn in float32 on the generator's device (without one: the default
/// generator of `like`'s device), then moved to `like`'s device and dtype.
torch::Tensor keep_mask(at::IntArrayRef shape, double keep, const torch::Tensor& like,
                        const std::optional<at::Generator>& generator);

/// LayerNorm over the last dimension without weights, then scale and shift per picture (AdaLN).
/// @param scale_plus_one, shift (B, 1, C)
torch::Tensor modulated_norm(const torch::Tensor& x, const torch::Tensor& scale_plus_one, const torch::Tensor& shift,
                             double eps);

}  // namespace nextscale
