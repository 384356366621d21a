#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/networks/dino.h"
#include "nextscale/networks/discriminator.h"
#include "nextscale/networks/spectral_norm.h"

namespace nextscale {

/// Over which values of a batch (B, C, l) a channel is normalised:
///   virtual_batch  those of a part of the batch (at most 8 consecutive samples), in evaluation mode too
///   batch          those of the whole batch; in evaluation mode by running statistics
///   group          those of one sample and C / 32 channels
enum class HeadNormKind { virtual_batch, batch, group };

/// Into how many equal parts a virtual batch norm splits a batch: as few as have 8 samples at most.
/// @throws Error failure for a batch that cannot be split so (9, 11, 13, 15, 17 …), naming the nearest that can
int64_t virtual_batches(int64_t batch);

/// A norm of a head: eps 1e-6, weight and bias a channel (and running statistics of `batch`).
class HeadNormImpl : public torch::nn::Module {
 public:
  HeadNormImpl(int64_t width, HeadNormKind kind);
  /// (B, C, l) -> (B, C, l)
  torch::Tensor forward(const torch::Tensor& x);
  void initialise();

 private:
  torch::Tensor virtual_batch(const torch::Tensor& x) const;

  HeadNormKind kind_;
  torch::Tensor weight_, bias_;
  torch::Tensor running_mean_, running_var_, num_batches_tracked_;  // of `batch` alone
};
TORCH_MODULE(HeadNorm);

/// Convolution, norm, leaky ReLU: "0" and "1" in the state dict.
class HeadLayerImpl : public torch::nn::Module {
 public:
  HeadLayerImpl(int64_t width, int64_t kernel, HeadNormKind norm);
  /// (B, C, l) -> (B, C, l)
  torch::Tensor forward(const torch::Tensor& x);
  void initialise(at::Generator generator);

 private:
  SpectralConv1d convolution_;
  HeadNorm norm_;
};
TORCH_MODULE(HeadLayer);

/// One head over one map of features: a 1x1 layer, a residual one of kernel 9 over the row of patches as a ring, a
/// convolution to one logit a patch. State-dict names 0.0.weight_orig … 1.fn.1.bias, 2.weight_v.
class DinoHeadImpl : public torch::nn::Module {
 public:
  DinoHeadImpl(int64_t width, HeadNormKind norm);
  /// (B, C, l) -> (B, 1, l)
  torch::Tensor forward(const torch::Tensor& features);
  void initialise(at::Generator generator);

 private:
  HeadLayer first_, residual_{nullptr};
  SpectralConv1d last_;
};
TORCH_MODULE(DinoHead);

/// Small trained heads over a frozen DINO (Sauer et al. 2023, arXiv 2301.09515, section 3.2): one for each of its taps.
/// The trunk is no part of the state dict (heads.0.0.0.weight_orig …) and may be shared, but moves with the module.
class DinoDiscriminatorImpl : public Discriminator {
 public:
  explicit DinoDiscriminatorImpl(const Dino& trunk, HeadNormKind norm = HeadNormKind::virtual_batch);
  /// Pictures of any size, 3 channels or 1; of those higher than the trunk's side a random part now and then
  /// (draw_dino_crop), the same of the whole batch. Heads in float32 whatever autocast says.
  /// @returns (B, 980): 196 logits of each head
  torch::Tensor forward(const torch::Tensor& pictures, at::Generator draws) override;
  /// The same for a given crop, or none.
  torch::Tensor logits(const torch::Tensor& pictures, const std::optional<DinoCrop>& crop = {});
  /// Heads as SpectralConv1d says, norms 1 and 0. Not the trunk.
  void initialise(at::Generator generator) override;
  void check(at::IntArrayRef shape) const override;

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

 private:
  Dino trunk_;  // not registered
  HeadNormKind norm_;
  std::vector<DinoHead> heads_;
};
TORCH_MODULE(DinoDiscriminator);

}  // namespace nextscale
