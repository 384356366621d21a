#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/networks/folded_convolution.h"

namespace nextscale {

/// What one pass through the network gives for B pictures; float32, on the pictures' device.
struct InceptionFeatures {
  torch::Tensor pool_64;   ///< (B, 64) means over the first max pool's map
  torch::Tensor pool_192;  ///< (B, 192) means over the second max pool's map
  torch::Tensor pool_768;  ///< (B, 768) means over Mixed_6e
  torch::Tensor pool;      ///< (B, 2048) means over Mixed_7c: the features of FID
  /// (B, 2023): the first seven channels of Mixed_6d.branch1x1 behind the ReLU, index (row * 17 + column) * 7 +
  /// channel, as ADM's evaluator flattens them for sFID.
  torch::Tensor spatial;
};

/// One mixed block: named convolutions, put together in forward.
class InceptionBlockImpl : public torch::nn::Module {
 public:
  /// The five kinds, in the paper's (Szegedy et al. 2015, arXiv 1512.00567) figures 5, 6, 7 and the two grid
  /// reductions.
  enum class Kind { a, b, c, d, e };
  /// @param pool what stands in the pool branch of the last kind
  enum class Pool { average, maximum };
  InceptionBlockImpl(Kind kind, int64_t in, int64_t width, Pool pool = Pool::average);
  torch::Tensor forward(const torch::Tensor& x);
  /// Output of branch1x1 in the latest forward of a block of kind c.
  const torch::Tensor& branch1x1() const { return branch1x1_output_; }
  void forget() { branch1x1_output_ = torch::Tensor(); }
  void fold();

 private:
  FoldedConvolution add(const std::string& name, int64_t in, int64_t out, std::vector<int64_t> kernel,
                        std::vector<int64_t> padding = {0, 0}, int64_t stride = 1);
  torch::Tensor run(const char* name, const torch::Tensor& x);
  /// x through the named convolutions one after the other.
  torch::Tensor chain(const torch::Tensor& x, std::initializer_list<const char*> names);

  Kind kind_;
  Pool pool_;
  std::vector<std::pair<std::string, FoldedConvolution>> convolutions_;
  torch::Tensor branch1x1_output_;
};
TORCH_MODULE(InceptionBlock);

/// The Inception network of 2015-12-05 that FID is defined by: 1008 outputs, average pools that leave out the padding,
/// a max pool in Mixed_7c. State-dict names are those of pytorch-fid and torch-fidelity (torchvision's):
/// Conv2d_1a_3x3.conv.weight … fc.bias.
class InceptionImpl : public torch::nn::Module {
 public:
  InceptionImpl();
  /// @param pictures (B, 3, 299, 299) float32, RGB, normalised as the protocol says
  InceptionFeatures forward(const torch::Tensor& pictures);
  /// (B, 2048) -> (B, 1008) without the bias, as scores of the Inception Score are taken
  torch::Tensor logits_unbiased(const torch::Tensor& pool);
  /// (B, 2048) -> (B, 1008)
  torch::Tensor logits(const torch::Tensor& pool);
  /// Batch norms go into the convolutions before them: fewer passes over memory, 1e-7 of rounding. Call again when
  /// weights have changed.
  void fold();

 private:
  FoldedConvolution conv_1a_{nullptr}, conv_2a_{nullptr}, conv_2b_{nullptr}, conv_3b_{nullptr}, conv_4a_{nullptr};
  std::vector<InceptionBlock> blocks_;  // 5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c
  torch::nn::Linear fc_{nullptr};
};
TORCH_MODULE(Inception);

/// Reads pt_inception-2015-12-05-6726825d.pth or weights-inception-2015-12-05-6726825d.pth (both forms of torch.save,
/// with or without num_batches_tracked) or a safetensors file of the same names.
/// @returns the network, folded, in evaluation mode
/// @throws Error failure naming file and entry: missing, extra, another shape, values that are not finite
Inception load_inception(const std::filesystem::path& path);

}  // namespace nextscale
