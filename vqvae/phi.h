#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace nextscale {

struct PhiOptions {
  int64_t width = 32;   // Cvae
  double ratio = 0.5;   // quant_resi; its sign does not matter, 0 = identity without weights
  int64_t share = 4;    // 0 one phi per scale, 1 one for all, n partially shared
  int64_t scales = 10;  // K of the quantizer: how many there are when each scale has its own
};

/// Which of `count` phis scale k of K takes: the one whose tick is nearest to k / (K - 1), the lower of two equals
/// (reference PhiPartiallyShared, PhiNonShared). With K = 1, where the reference divides by zero, the first.
int64_t phi_index(int64_t k, int64_t scales, int64_t count);

/// The 3x3 convolutions that mend what upsampling a code map blurs, phi(x) = (1 - |r|) x + |r| conv(x) (VAR paper,
/// section 3.2; reference Phi and its three holders).
/// State-dict names: `N` one per scale, `qresi` shared, `qresi_ls.N` partially shared.
class PhisImpl : public torch::nn::Module {
 public:
  explicit PhisImpl(const PhiOptions& options);
  /// @param x (B, Cvae, h, w) upsampled codes of scale k @param scales K of the pyramid in use, not always the
  /// quantizer's own
  torch::Tensor forward(const torch::Tensor& x, int64_t k, int64_t scales);
  int64_t count() const { return count_; }  ///< how many different phis, identities counted

 private:
  double ratio_;
  int64_t count_;
  std::vector<torch::nn::Conv2d> convs_;  // empty for the identity
};
TORCH_MODULE(Phis);

}  // namespace nextscale
