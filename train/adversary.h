#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/networks/discriminator.h"
#include "nextscale/train/adversarial_losses.h"
#include "nextscale/train/optimizer.h"
#include "nextscale/train/running_means.h"
#include "nextscale/train/schedule.h"

namespace nextscale {

/// The network that tells decoded pictures from real ones, how it learns, and how its verdict weighs.
struct AdversaryOptions {
  std::string discriminator = "none";
  double adversarial = 0.4;
  bool adaptive = true;
  double adaptive_eps = 1e-6, adaptive_low = 0.015, adaptive_high = 1e4;
  double adversary_start = 0.2, adversary_ramp = 0.02;
  int64_t discriminator_width = 64, discriminator_layers = 3;
  std::string discriminator_norm = "auto";
  double discriminator_lr = 3e-4, discriminator_weight_decay = 5e-4;
  double hinge = 1.0;
  double consistency = 0.0;
  double lecam = 0.0, lecam_decay = 0.999;
  double augment = 0.0, cutout = 0.2;
  double blur_fade = 0.0;

  static constexpr auto table() {
    using O = AdversaryOptions;
    return std::tuple{
        option("discriminator", &O::discriminator,
               "what tells decoded pictures from real ones: patchgan; dino (heads on frozen DINO features, needs their "
               "file in --weights); none",
               one_of("none", "patchgan", "dino")),
        option("adversarial", &O::adversarial, "weight of the adversarial term; 0 = none", between(0.0, 1e3)),
        option("adaptive", &O::adaptive,
               "multiply it by the ratio of gradients at the decoder's last layer, reconstruction to adversarial"),
        option("adaptive_eps", &O::adaptive_eps, "added to the ratio's denominator", between(0.0, 1.0)),
        option("adaptive_low", &O::adaptive_low, "the ratio is at least this", between(0.0, 1e6)),
        option("adaptive_high", &O::adaptive_high, "the ratio is at most this", between(0.0, 1e6)),
        option("adversary_start", &O::adversary_start, "share of the steps before the adversary begins",
               between(0.0, 1.0)),
        option("adversary_ramp", &O::adversary_ramp,
               "share of the steps over which its weight and its learning rate then rise", between(0.0, 1.0)),
        option("discriminator_width", &O::discriminator_width, "channels of patchgan's first convolution",
               between(1, 1024)),
        option("discriminator_layers", &O::discriminator_layers,
               "convolutions of stride 2 in patchgan; 3 sees 70 pixels, 2 sees 34", between(1, 6)),
        option("discriminator_norm", &O::discriminator_norm,
               "in dino's heads: virtual (over at most 8 pictures), batch, group (within each); auto: batch from 16 "
               "pictures on, else virtual",
               one_of("auto", "virtual", "batch", "group")),
        option("discriminator_lr", &O::discriminator_lr, "the discriminator's peak learning rate", between(0.0, 10.0)),
        option("discriminator_weight_decay", &O::discriminator_weight_decay, "weight decay of its matrices",
               between(0.0, 10.0)),
        option("hinge", &O::hinge, "factor of its hinge loss; taming's discriminators have 0.5", between(0.0, 100.0)),
        option("consistency", &O::consistency,
               "weight of the difference between its answers to two augmentations of the same pictures",
               between(0.0, 1e3)),
        option("lecam", &O::lecam, "weight of LeCam regularisation", between(0.0, 1e3)),
        option("lecam_decay", &O::lecam_decay, "of LeCam's running means", between(0.0, 0.999999)),
        option("augment", &O::augment, "share of the batches that it sees shifted, recoloured and cut out",
               between(0.0, 1.0)),
        option("cutout", &O::cutout, "side of the cut-out in sides of the picture", between(0.0, 1.0)),
        option("blur_fade", &O::blur_fade, "share of the steps over which a blur of what it sees fades after its start",
               between(0.0, 1.0)),
    };
  }
  bool on() const { return discriminator != "none" && adversarial > 0; }
};

/// What an adversary shares with the training it belongs to.
struct AdversarySetting {
  int64_t channels, side, batch, steps, seed;
  torch::Device device;
  torch::ScalarType dtype;  ///< of convolutions and matrices
  AdamWOptions moments;
  double clip;
  ScheduleOptions schedule;       ///< kind and end; peak, decay and warm-up are the adversary's own
  std::filesystem::path weights;  ///< folder with DINO's file
};

/// A discriminator in training, and what the tokenizer pays to it.
class Adversary {
 public:
  /// @throws Error failure for a discriminator that cannot see pictures of this side or batches of this size, and for
  /// published weights that are not there or damaged
  Adversary(const AdversaryOptions& options, const AdversarySetting& setting);

  bool active(int64_t step) const { return step >= first_step_; }

  /// What the tokenizer pays for decoded pictures and how that would change with each pixel; the discriminator stays.
  struct Push {
    torch::Tensor loss;      ///< scalar, before any weight
    torch::Tensor gradient;  ///< (B, C, H, W)
  };
  Push push(const torch::Tensor& decoded, int64_t step);
  /// The term's whole weight in this step. @param reconstruction, adversarial gradients at the decoder's last layer;
  /// undefined where the weight is not adaptive @returns scalar
  torch::Tensor weight(const torch::Tensor& reconstruction, const torch::Tensor& adversarial, int64_t step);
  /// One step of the discriminator. One whose loss or gradients are not finite is left out and counted.
  /// @param real, decoded (B, C, H, W), without a graph
  void learn(const torch::Tensor& real, const torch::Tensor& decoded, int64_t step);

  bool adaptive() const { return options_.adaptive; }
  /// Numbers since the last call; NaN for those of which every step's was broken.
  std::map<std::string, double> numbers();
  /// What these numbers say that a user should know, each once.
  std::vector<std::string> notes(const std::map<std::string, double>& numbers);

  NamedTensors state() const;  ///< weights, buffers, "lecam.…"; shares storage
  NamedTensors optimizer_state() const { return optimizer_->state(); }
  void load_optimizer(const NamedTensors& state, const std::string& where) { optimizer_->load_state(state, where); }

 private:
  double ramp(int64_t step) const;
  torch::Tensor seen(const torch::Tensor& pictures, int64_t step, at::Generator& draws) const;
  torch::Tensor logits(const torch::Tensor& pictures, at::Generator& draws);

  AdversaryOptions options_;
  AdversarySetting setting_;
  int64_t first_step_, ramp_steps_, fade_steps_;
  bool is_patch_;
  std::shared_ptr<Discriminator> network_;
  std::unique_ptr<AdamW> optimizer_;
  Lecam lecam_;
  RunningMeans means_;
  std::map<std::string, int64_t> alarming_;  // reports in a row
};

}  // namespace nextscale
