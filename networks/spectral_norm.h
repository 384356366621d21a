#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace nextscale {

struct SpectralConv1dOptions {
  int64_t in, out;
  int64_t kernel = 1;     ///< odd
  bool circular = false;  ///< what stands beyond the ends: the other end, else zeros
};

/// A convolution over positions whose weight, as a matrix M (out, in * kernel), is divided by an estimate of its
/// largest singular value (Miyato et al. 2018, arXiv 1802.05957). Each forward in training mode improves the estimate
/// by one power iteration, v = unit(M^T u), u = unit(M v); in evaluation mode it stays. The value is u . M v, through
/// which the gradient flows with u and v constant. Always computed in the weight's own precision (float32), whatever
/// autocast says. State-dict names are those of PyTorch's spectral_norm: weight_orig, bias, weight_u, weight_v.
class SpectralConv1dImpl : public torch::nn::Module {
 public:
  explicit SpectralConv1dImpl(const SpectralConv1dOptions& options);
  /// (B, in, l) -> (B, out, l). All weights are 0 until they are loaded or initialised.
  torch::Tensor forward(const torch::Tensor& x);
  /// Weights N(0, 0.02), bias 0, u and v unit vectors of random direction.
  void initialise(at::Generator generator);

 private:
  /// (out, in, kernel)
  torch::Tensor normalised_weight();

  SpectralConv1dOptions options_;
  torch::Tensor weight_orig_, bias_;   // (out, in, kernel), (out)
  torch::Tensor weight_u_, weight_v_;  // (out), (in * kernel)
};
TORCH_MODULE(SpectralConv1d);

}  // namespace nextscale
