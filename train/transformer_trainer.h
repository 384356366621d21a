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
#include "nextscale/train/ema.h"
#include "nextscale/train/loop.h"
#include "nextscale/train/optimizer.h"
#include "nextscale/train/progressive.h"
#include "nextscale/train/schedule.h"
#include "nextscale/train/token_source.h"
#include "nextscale/var/transformer.h"

namespace nextscale {

struct TransformerTrainingOptions {
  double label_drop = 0.1;
  double label_smoothing = 0.0;
  double beta1 = 0.9, beta2 = 0.95;
  double clip = 2.0;
  int64_t accumulate = 1;
  bool checkpoint_activations = false;
  double ema = 0.9999;
  double progressive = 0.0;
  int64_t progressive_first = 4;
  double progressive_warmup = 0.0;
  int64_t validation_pictures = 2000;
  double overfit_gap = 0.1;
  double token_entropy = 0.0;

  static constexpr auto table() {
    using O = TransformerTrainingOptions;
    return std::tuple{
        option("label_drop", &O::label_drop, "share of labels replaced by the label-free class (for guidance)",
               between(0.0, 1.0)),
        option("label_smoothing", &O::label_smoothing, "share of each target spread over all codes",
               between(0.0, 0.99)),
        option("beta1", &O::beta1, "AdamW's decay of the gradient's mean", between(0.0, 0.99999)),
        option("beta2", &O::beta2, "AdamW's decay of the gradient's square", between(0.0, 0.99999)),
        option("clip", &O::clip, "largest gradient norm; 0 = no clipping", between(0.0, 1e9)),
        option("accumulate", &O::accumulate, "parts that a batch is computed in, one after the other, to save memory",
               between(1, 1 << 16)),
        option("checkpoint_activations", &O::checkpoint_activations,
               "compute each block's inner values again in the backward pass: far less memory, a third more work"),
        option("ema", &O::ema, "decay of the averaged weights, which are validated and sampled from; 0 = none",
               between(0.0, 0.999999)),
        option("progressive", &O::progressive,
               "share of the steps until all scales are trained, coarse ones first; 0 = off", between(0.0, 1.0)),
        option("progressive_first", &O::progressive_first, "finest scale of the first progressive stage, from 0",
               between(0, 255)),
        option("progressive_warmup", &O::progressive_warmup,
               "share of the steps in which a new scale's loss weight rises", between(0.0, 1.0)),
        option("validation_pictures", &O::validation_pictures,
               "held-out pictures of the last validation; the others look at a quarter of them", between(1, 1 << 24)),
        option("overfit_gap", &O::overfit_gap,
               "warn when the held-out cross-entropy is this far above that of training pictures (nats); 0 = never",
               between(0.0, 100.0)),
        option("token_entropy", &O::token_entropy,
               "entropy of the tokenizer's tokens in nats, if known: its difference to the loss is logged as reducible",
               between(0.0, 100.0)),
    };
  }
};

/// Everything that decides a transformer's training but data and seed.
struct TransformerRecipe {
  TransformerOptions model;
  TransformerTrainingOptions training;
  ScheduleOptions schedule;
  LoopOptions loop;
  int64_t validations = 10;  ///< in a run whose --validate-every is not given
  double lr_per_256 = 0;  ///< published recipes scale the peak rate with the batch: lr = this * batch / 256; 0 = fixed
};
/// Steps of the fast preset: seven to eight minutes for 28 px pictures on two cores.
inline constexpr int64_t kFastTransformerSteps = 7200;
/// fast, d16, d20, d24, d30 or d36-s. @throws Error usage for another name
TransformerRecipe transformer_recipe(const std::string& preset);
/// Free choice of depth: d16's training, the published family's width, heads and stochastic depth.
TransformerRecipe transformer_recipe(int64_t depth);

/// @throws Error usage: accumulation that does not divide the batch, progressive scales that are not there
void check_together(const TransformerTrainingOptions& options, const LoopOptions& loop, const Scales& scales);

/// Cross-entropy (nats) and accuracy of predicted tokens.
struct TokenScores {
  std::vector<double> loss, accuracy;       ///< of each scale
  double mean_loss = 0, mean_accuracy = 0;  ///< over all tokens: every token counts the same
};

/// Trains a transformer on tokens (reference trainer.py, VARTrainer), driven by run_loop.
class TransformerTrainer : public Trainee {
 public:
  /// @param metadata    further entries of the weights' files ("class_names", "tokenizer_hash")
  /// @param steps       length of the schedule
  TransformerTrainer(const TransformerRecipe& recipe, std::unique_ptr<TokenSource> source, int64_t steps, int64_t seed,
                     torch::Device device, torch::ScalarType dtype, std::map<std::string, std::string> metadata);

  /// The reported loss is the mean since the last report.
  StepReport step(int64_t step, bool report) override;
  /// Labels are kept, EMA weights where there are some. loss, accuracy: held-out pictures; train_loss: as many training
  /// pictures under the same conditions; gap: their difference; loss_1x1, accuracy_1x1 …: per scale.
  std::map<std::string, double> validate(int64_t step) override;
  void save(const CheckpointWriter& checkpoint) override;
  void load(const std::filesystem::path& checkpoint) override;
  void save_snapshot(const std::filesystem::path& path) override;
  std::vector<std::string> data_faults() const override { return source_->data_faults(); }
  uint64_t checkpoint_bytes() const override;

  /// What the last validation found alarming, in words; empty if nothing.
  const std::string& warning() const { return warning_; }
  Transformer transformer() const { return transformer_; }
  int64_t values() const;  ///< trained

 private:
  torch::Tensor loss_of(const torch::Tensor& logits, const torch::Tensor& tokens, const ProgressiveStage& stage) const;
  TokenScores score(bool held_out, int64_t pictures);
  void add_scale_numbers(const torch::Tensor& logits, const torch::Tensor& tokens, StepReport& report) const;

  TransformerRecipe recipe_;
  std::unique_ptr<TokenSource> source_;
  int64_t steps_, seed_;
  torch::Device device_;
  torch::ScalarType dtype_;
  std::map<std::string, std::string> metadata_;
  Transformer transformer_{nullptr};
  std::unique_ptr<AdamW> optimizer_;
  std::optional<Ema> ema_;
  torch::Tensor loss_sum_;  // since the last report, on the device
  int64_t losses_ = 0;
  std::string warning_;
};

/// The transformer whose codes, sides and classes fit the tokens.
TransformerOptions fit_to_tokens(TransformerOptions model, const QuantizerOptions& quantizer, int64_t classes);

}  // namespace nextscale
