#pragma once

#include <torch/types.h>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// mean max(0, 1 - real) + mean max(0, 1 + fake): a discriminator's loss (Lim and Ye 2017, "Geometric GAN").
/// @param real, fake logits of any shape @returns scalar
torch::Tensor hinge_loss(const torch::Tensor& real, const torch::Tensor& fake);

/// What the tokenizer pays where its pictures are told from real ones: -mean fake.
torch::Tensor generator_loss(const torch::Tensor& fake);

/// Shares of logits on the right side of zero, in [0, 1].
struct Accuracy {
  torch::Tensor real, fake;  ///< scalars
};
Accuracy accuracy(const torch::Tensor& real, const torch::Tensor& fake);

/// Keeps a discriminator that sees little data from running away: its logits of real pictures are held near the running
/// mean of those of decoded ones and the other way round (Tseng et al. 2021, "Regularizing GANs under limited data").
/// The running means begin at zero and are not corrected for that: in the first 1 / (1 - decay) steps they mean little.
class Lecam {
 public:
  Lecam(double decay, torch::Device device);
  /// Means first, then the mean over logits of max(0, real - mean of fake)^2 + max(0, mean of real - fake)^2.
  /// @returns scalar
  torch::Tensor operator()(const torch::Tensor& real, const torch::Tensor& fake);
  /// "real", "fake": the running means; shares storage.
  NamedTensors state() const { return {{"real", real_}, {"fake", fake_}}; }

 private:
  double decay_;
  torch::Tensor real_, fake_;  // scalars
};

/// How the adversarial term is weighed against the others: by the ratio of their gradients at the decoder's last layer
/// (Esser et al. 2021, "Taming transformers", equation 7).
struct AdaptiveWeight {
  double eps = 1e-6;  ///< added to the adversarial gradient's norm
  double low = 0.015, high = 1e4;
};
/// |reconstruction| / (|adversarial| + eps), not yet clamped. @returns scalar
torch::Tensor gradient_ratio(const torch::Tensor& reconstruction, const torch::Tensor& adversarial, double eps);
/// The ratio within its limits; 0 where it is not a number: a broken step must not push at all.
torch::Tensor limited(const torch::Tensor& ratio, const AdaptiveWeight& options);

}  // namespace nextscale
