#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/state_dict.h"

namespace nextscale {

struct FoldedConvolutionOptions {
  int64_t in, out;
  std::vector<int64_t> kernel;            ///< height, width
  std::vector<int64_t> padding = {0, 0};  ///< rows, columns on each side
  int64_t stride = 1;
};

/// Convolution without bias, batch norm (eps 0.001) and ReLU: "conv" and "bn" in the state dict. fold() makes one
/// convolution with a bias of the first two.
class FoldedConvolutionImpl : public torch::nn::Module {
 public:
  explicit FoldedConvolutionImpl(const FoldedConvolutionOptions& options);
  /// (B, in, h, w) -> (B, out, h', w'), non-negative
  torch::Tensor forward(const torch::Tensor& x);
  void fold();

 private:
  torch::nn::Conv2d conv_{nullptr};
  torch::nn::BatchNorm2d bn_{nullptr};
  torch::Tensor weight_, bias_;  // of the folded convolution; undefined before fold()
};
TORCH_MODULE(FoldedConvolution);

struct FoldedWeights {
  torch::Tensor weight, bias;
};
/// Weight and bias of the convolution that does what `convolution` (without bias) and `norm` in evaluation mode do.
/// Computed in float64, rounded once; channels last.
FoldedWeights folded(const torch::Tensor& convolution, const torch::nn::BatchNorm2d& norm);

/// Loads published weights: counters of batch norms (num_batches_tracked) may be missing and are not used, all else
/// must fit by name and shape and be finite.
/// @throws Error failure naming file and entry
void load_published(torch::nn::Module& module, const NamedTensors& weights, const std::string& where);

}  // namespace nextscale
