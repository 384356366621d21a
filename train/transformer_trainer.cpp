#include "nextscale/train/transformer_trainer.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/weights.h"
#include "nextscale/train/metrics_log.h"
#include "nextscale/train/seeds.h"

namespace nextscale {
namespace {

// Logits that may be alive at once in validation.
constexpr int64_t kLogitsAtOnce = int64_t{1} << 24;

/// Of each token: cross-entropy in nats (no smoothing) and whether the likeliest code is right.
struct PerToken {
  torch::Tensor loss, right;  // (B, L) float32
};
PerToken per_token(const torch::Tensor& logits, const torch::Tensor& tokens) {
  const auto loss = at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten(), {}, at::Reduction::None);
  return {loss.view_as(tokens), logits.argmax(-1).eq(tokens).to(at::kFloat)};
}

}  // namespace

void check_together(const TransformerTrainingOptions& options, const LoopOptions& loop, const Scales& scales) {
  if (loop.batch % options.accumulate != 0) {
    throw usage({"--accumulate", "does not divide the batch", "a divisor of " + std::to_string(loop.batch),
                 std::to_string(options.accumulate)});
  }
  if (options.progressive > 0 && options.progressive_first >= scales.count()) {
    throw usage({"--progressive-first", "is no scale", fmt::format("at most {}", scales.count() - 1),
                 std::to_string(options.progressive_first)});
  }
}

TransformerOptions fit_to_tokens(TransformerOptions model, const QuantizerOptions& quantizer, int64_t classes) {
  model.codes = quantizer.codes;
  model.code_width = quantizer.code_width;
  model.sides = quantizer.sides;
  model.classes = classes;
  return model;
}

TransformerTrainer::TransformerTrainer(const TransformerRecipe& recipe, std::unique_ptr<TokenSource> source,
                                       int64_t steps, int64_t seed, torch::Device device, torch::ScalarType dtype,
                                       std::map<std::string, std::string> metadata)
    : recipe_(recipe),
      source_(std::move(source)),
      steps_(steps),
      seed_(seed),
      device_(device),
      dtype_(dtype),
      metadata_(std::move(metadata)),
      transformer_(Transformer(recipe.model)) {
  // Drawn on the CPU whatever the device, so that a seed means the same weights everywhere.
  transformer_->initialise(purpose_generator(seed, Purpose::initial_weights));
  transformer_->to(device);
  transformer_->train();
  const auto& training = recipe_.training;
  transformer_->set_checkpointing(training.checkpoint_activations);
  optimizer_ = std::make_unique<AdamW>(named_parameters(*transformer_),
                                       AdamWOptions{.beta1 = training.beta1, .beta2 = training.beta2},
                                       transformer_parameter_decays);
  // Sums of several passes' gradients would lose bits in bfloat16.
  if (device.is_cpu() && dtype == at::kBFloat16 && training.accumulate == 1) {
    optimizer_->use_rounded(transformer_->round_for_training(dtype));
  }
  if (training.ema > 0) ema_.emplace(*transformer_, training.ema);
  loss_sum_ = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
}

torch::Tensor TransformerTrainer::loss_of(const torch::Tensor& logits, const torch::Tensor& tokens,
                                          const ProgressiveStage& stage) const {
  const double smoothing = recipe_.training.label_smoothing;
  const auto flat = logits.flatten(0, 1);  // (B * L, V)
  if (stage.newest_scale < 0) {
    return at::cross_entropy_loss(flat, tokens.flatten(), {}, at::Reduction::Mean, -100, smoothing);
  }
  // Positions keep the weight 1/L that they have when all scales are trained, as in the reference.
  const auto loss = at::cross_entropy_loss(flat, tokens.flatten(), {}, at::Reduction::None, -100, smoothing);
  auto weights = at::ones({tokens.size(1)}, loss.options().requires_grad(false));
  const auto& scales = transformer_->scales();
  weights.narrow(0, scales.begin(stage.newest_scale), scales.area(stage.newest_scale)).mul_(stage.newest_weight);
  return (loss.view_as(tokens) * weights).sum(1).mean() / static_cast<double>(scales.length());
}

StepReport TransformerTrainer::step(int64_t step, bool report) {
  const auto& training = recipe_.training;
  const auto& scales = transformer_->scales();
  auto stage = progressive_stage({.share = training.progressive,
                                  .first_scale = training.progressive_first,
                                  .warmup_steps = recipe_.schedule.warmup * static_cast<double>(steps_),
                                  .stage_warmup_steps = training.progressive_warmup * static_cast<double>(steps_)},
                                 step, steps_, scales.count());
  // With all scales nothing is held back, as in the reference.
  if (stage.newest_scale + 1 == scales.count()) stage = {.newest_scale = -1, .newest_weight = 1};
  auto batch = source_->batch(step);
  if (stage.newest_scale >= 0) {
    const int64_t length = scales.end(stage.newest_scale);
    batch.tokens = batch.tokens.narrow(1, 0, length);
    batch.inputs = batch.inputs.narrow(1, 0, length - scales.area(0));
  }
  // Generators of this step alone: nothing to save, and a resumed run draws the same.
  auto drops = purpose_generator(seed_, Purpose::label_drop, step);
  const auto depths = purpose_generator(seed_, Purpose::dropout, step);
  batch.labels = drop_labels(batch.labels, transformer_->label_free_class(), training.label_drop, drops);

  optimizer_->zero_grad();
  StepReport out;
  out.replaced = batch.replaced;
  const int64_t part = batch.tokens.size(0) / training.accumulate;
  for (int64_t i = 0; i < training.accumulate; ++i) {
    const auto tokens = batch.tokens.narrow(0, i * part, part);  // (b, L)
    torch::Tensor logits;                                        // (b, L, V)
    {
      const AutocastGuard autocast(device_.type(), dtype_);
      logits =
          transformer_->forward(batch.labels.narrow(0, i * part, part), batch.inputs.narrow(0, i * part, part), depths);
    }
    const auto loss = loss_of(logits, tokens, stage) / static_cast<double>(training.accumulate);
    loss.backward();
    loss_sum_ += loss.detach();
    if (report && i + 1 == training.accumulate) add_scale_numbers(logits.detach(), tokens, out);
  }
  ++losses_;
  const auto norm = optimizer_->clip_gradients(training.clip);
  const auto rates = rates_at(recipe_.schedule, step, steps_);
  optimizer_->step(rates.lr, rates.weight_decay);
  if (ema_) ema_->update(*transformer_, step);

  if (report) {
    out.loss = loss_sum_.item<double>() / static_cast<double>(losses_);
    out.lr = rates.lr;
    out.grad_norm = norm.item<double>();
    out.more["weight_decay"] = rates.weight_decay;
    if (stage.newest_scale >= 0) out.more["newest_scale"] = static_cast<double>(stage.newest_scale);
    loss_sum_.zero_();
    losses_ = 0;
  }
  return out;
}

void TransformerTrainer::add_scale_numbers(const torch::Tensor& logits, const torch::Tensor& tokens,
                                           StepReport& report) const {
  const at::NoGradGuard no_grad;
  const auto& scales = transformer_->scales();
  const auto scores = per_token(logits, tokens);
  report.more["accuracy"] = scores.right.mean().item<double>();
  for (int64_t k = 0; k < scales.count() && scales.end(k) <= tokens.size(1); ++k) {
    const int64_t begin = scales.begin(k), area = scales.area(k);
    report.more[with_scale("loss", scales.map(k))] = scores.loss.narrow(1, begin, area).mean().item<double>();
    report.more[with_scale("accuracy", scales.map(k))] = scores.right.narrow(1, begin, area).mean().item<double>();
  }
}

TokenScores TransformerTrainer::score(bool held_out, int64_t pictures) {
  const auto& scales = transformer_->scales();
  const auto chosen = fixed_subset(held_out ? source_->held_out() : source_->pictures(), pictures);
  const int64_t at_once =
      std::clamp<int64_t>(kLogitsAtOnce / (scales.length() * recipe_.model.codes), 1, recipe_.loop.batch * 16);
  const auto sums_options = at::TensorOptions().dtype(at::kDouble).device(device_);
  auto loss = at::zeros({scales.length()}, sums_options), right = loss.clone();  // (L), sums over pictures
  for (int64_t first = 0; first < chosen.size(0); first += at_once) {
    const auto indices = chosen.narrow(0, first, std::min(at_once, chosen.size(0) - first));
    const auto batch = held_out ? source_->held_out_batch(indices) : source_->training_batch(indices);
    const AutocastGuard autocast(device_.type(), dtype_);
    const auto logits = transformer_->forward(batch.labels, batch.inputs);
    const AutocastGuard full(device_.type(), at::kFloat);
    const auto scores = per_token(logits, batch.tokens);
    loss += scores.loss.sum(0, false, at::kDouble);
    right += scores.right.sum(0, false, at::kDouble);
  }
  const auto count = static_cast<double>(chosen.size(0));
  TokenScores out;
  for (int64_t k = 0; k < scales.count(); ++k) {
    out.loss.push_back(loss.narrow(0, scales.begin(k), scales.area(k)).mean().item<double>() / count);
    out.accuracy.push_back(right.narrow(0, scales.begin(k), scales.area(k)).mean().item<double>() / count);
  }
  out.mean_loss = loss.mean().item<double>() / count;
  out.mean_accuracy = right.mean().item<double>() / count;
  return out;
}

std::map<std::string, double> TransformerTrainer::validate(int64_t step) {
  const at::NoGradGuard no_grad;
  const auto& training = recipe_.training;
  warning_.clear();
  if (source_->held_out() == 0) return {};
  std::optional<Ema::Swap> averaged;
  if (ema_) averaged.emplace(*transformer_, *ema_);
  transformer_->eval();
  const int64_t quarter = (training.validation_pictures + 3) / 4;
  // In a short run validation must not cost more than training.
  const int64_t during = std::clamp<int64_t>(steps_ * recipe_.loop.batch / 20, std::min<int64_t>(quarter, 64), quarter);
  const auto seen = score(/*held_out=*/false, during);
  const auto held_out = score(/*held_out=*/true, step < steps_ ? during : training.validation_pictures);
  transformer_->train();

  std::map<std::string, double> numbers = {{"loss", held_out.mean_loss},
                                           {"accuracy", held_out.mean_accuracy},
                                           {"train_loss", seen.mean_loss},
                                           {"gap", held_out.mean_loss - seen.mean_loss}};
  if (training.token_entropy > 0) numbers["reducible"] = held_out.mean_loss - training.token_entropy;
  for (size_t k = 0; k < held_out.loss.size(); ++k) {
    const auto& map = transformer_->scales().map(static_cast<int64_t>(k));
    numbers[with_scale("loss", map)] = held_out.loss[k];
    numbers[with_scale("accuracy", map)] = held_out.accuracy[k];
  }
  if (training.overfit_gap > 0 && numbers["gap"] > training.overfit_gap) {
    warning_ = fmt::format(
        "the transformer begins to learn its training pictures by heart: cross-entropy {:.3f} on held-out pictures, "
        "{:.3f} on training pictures; more data, --hflip or crops, --drop-path, a smaller model or fewer steps help",
        held_out.mean_loss, seen.mean_loss);
  }
  return numbers;
}

void TransformerTrainer::save(const CheckpointWriter& checkpoint) {
  auto& files = checkpoint.operations();
  save_transformer(checkpoint.file("model.safetensors"), transformer_, {}, metadata_, files);
  if (ema_) save_transformer(checkpoint.file("ema.safetensors"), transformer_, ema_->weights(), metadata_, files);
  write_weights(checkpoint.file("optimizer.safetensors"),
                {.tensors = optimizer_->state(), .metadata = {{"format", "nextscale.optimizer"}}}, files);
}

void TransformerTrainer::load(const std::filesystem::path& checkpoint) {
  const auto model = checkpoint / "model.safetensors";
  load_state_dict(*transformer_, read_weights(model).tensors, model.string());
  if (ema_) {
    const auto ema = checkpoint / "ema.safetensors";
    ema_->load(read_weights(ema).tensors, ema.string());
  }
  const auto optimizer = checkpoint / "optimizer.safetensors";
  optimizer_->load_state(read_weights(optimizer).tensors, optimizer.string());
}

void TransformerTrainer::save_snapshot(const std::filesystem::path& path) {
  save_transformer(path, transformer_, ema_ ? ema_->weights() : NamedTensors{}, metadata_);
}

int64_t TransformerTrainer::values() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : named_parameters(*transformer_)) count += tensor.numel();
  return count;
}

uint64_t TransformerTrainer::checkpoint_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : state_dict(*transformer_)) bytes += tensor.nbytes();
  return bytes * (ema_ ? 4 : 3);  // weights, their average, two moments
}

}  // namespace nextscale
