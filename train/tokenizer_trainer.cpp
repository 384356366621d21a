#include "nextscale/train/tokenizer_trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/weights.h"
#include "nextscale/networks/perceptual_names.h"
#include "nextscale/train/pictures.h"
#include "nextscale/train/restore.h"
#include "nextscale/train/seeds.h"

namespace nextscale {
namespace {

constexpr const char* kDiscriminator = "discriminator.safetensors";
constexpr const char* kDiscriminatorOptimizer = "discriminator_optimizer.safetensors";
constexpr const char* kCodebook = "quantize.embedding.weight";
constexpr const char* kLastLayer = "decoder.conv_out.weight";
constexpr const char* kTotal = "loss";
constexpr const char* kNorm = "grad_norm";
constexpr const char* kSkipped = "skipped_steps";

const TokenizerRecipe& checked(const TokenizerRecipe& recipe, const DataParts& parts) {
  check_together(recipe.model);
  require_side(recipe.model, parts.side, parts.channels);
  return recipe;
}

CodebookTrainingOptions codebook_options(const TokenizerTrainingOptions& training) {
  CodebookTrainingOptions options;
  // With gradients the running counts still say which codes are dead.
  if (training.codebook_decay > 0) options.decay = training.codebook_decay;
  options.restart_below = training.restart_share;
  return options;
}

}  // namespace

TokenizerTrainer::TokenizerTrainer(const TokenizerRecipe& recipe, const DataParts& parts, const DataOptions& data,
                                   int64_t steps, int64_t seed, torch::Device device, torch::ScalarType dtype)
    : recipe_(checked(recipe, parts)),
      parts_(parts),
      data_(data),
      steps_(steps),
      seed_(seed),
      continuous_steps_(std::llround(recipe.training.continuous * static_cast<double>(steps))),
      device_(device),
      dtype_(dtype),
      loader_(parts.train, parts, data, recipe.loop.batch, seed),
      tokenizer_(Tokenizer(recipe.model)) {
  const auto& training = recipe_.training;
  // Drawn on the CPU whatever the device, so that a seed means the same weights everywhere.
  tokenizer_->initialise(purpose_generator(seed, Purpose::initial_weights));
  tokenizer_->to(device);
  to_channels_last(*tokenizer_);
  tokenizer_->train();
  if (training.codebook_decay > 0) tokenizer_->quantizer()->codebook().set_requires_grad(false);
  codebook_ = std::make_unique<CodebookTraining>(tokenizer_->quantizer(), codebook_options(training));
  optimizer_ = std::make_unique<AdamW>(named_parameters(*tokenizer_),
                                       AdamWOptions{.beta1 = training.beta1, .beta2 = training.beta2},
                                       tokenizer_parameter_decays);
  if (training.ema > 0) ema_.emplace(*tokenizer_, training.ema, EmaWarmup::in_pairs);
  tokenizer_->set_checkpointing(training.checkpoint_activations);
  if (training.perceptual > 0) {
    perceptual_ = load_perceptual_distance(training.perceptual_network, recipe_.weights);
    require_side(perceptual_, parts.side, "--perceptual");
    perceptual_->to(device);
  }
  if (recipe_.adversary.on()) {
    adversary_ = std::make_unique<Adversary>(
        recipe_.adversary, AdversarySetting{.channels = parts.channels,
                                            .side = parts.side,
                                            .batch = recipe_.loop.batch,
                                            .steps = steps,
                                            .seed = seed,
                                            .device = device,
                                            .dtype = dtype,
                                            .moments = {.beta1 = training.beta1, .beta2 = training.beta2},
                                            .clip = training.clip,
                                            .schedule = recipe_.schedule,
                                            .weights = recipe_.weights});
  }
}

StepReport TokenizerTrainer::step(int64_t step, bool report) {
  const auto& training = recipe_.training;
  const auto batch = loader_.batch(step);
  const auto pictures = to_device(batch.pictures, device_).contiguous(at::MemoryFormat::ChannelsLast);
  // Generators of this step alone: nothing to save, and a resumed run draws the same.
  auto draws = purpose_generator(seed_, Purpose::codebook, step);
  if (recipe_.model.dropout > 0) {
    tokenizer_->use_generator(purpose_generator_on(device_, seed_, Purpose::dropout, step));
  }
  if (step == continuous_steps_) start_codebook(pictures, draws);

  optimizer_->zero_grad();
  TokenizerOutput output;
  {
    const AutocastGuard autocast(device_.type(), dtype_);
    output = is_continuous(step) ? tokenizer_->forward_continuous(pictures)
                                 : tokenizer_->forward(pictures, scales_used(step));
  }
  const auto total = backward(output, pictures, step);
  const auto norm = optimizer_->clip_gradients(training.clip);
  const auto broken = norm.isfinite().logical_and(total.isfinite()).logical_not().to(at::kFloat);
  const auto rates = rates_at(recipe_.schedule, step, steps_);
  // Where loss or gradient are not finite the step is left out; the loop ends where none is any more.
  optimizer_->step(rates.lr, rates.weight_decay, broken);
  guard_codebook(output.quantized, step, draws);
  if (ema_) {
    ema_->update(*tokenizer_, step);
    // Codes that follow a running mean are averages already, and a restarted one must not be mixed with its past.
    if (training.codebook_decay > 0) {
      find_tensor(ema_->weights(), kCodebook).copy_(tokenizer_->quantizer()->codebook().detach());
    }
  }
  if (is_against(step)) adversary_->learn(pictures, output.pictures.detach(), step);

  means_.add(kTotal, total);
  means_.add(kNorm, norm);
  means_.add(kSkipped, broken);
  StepReport out;
  if (report) out = report_of(rates);
  out.replaced = batch.replaced;
  return out;
}

StepReport TokenizerTrainer::report_of(const Rates& rates) {
  StepReport out;
  out.more = means_.take();
  if (adversary_) {
    const auto numbers = adversary_->numbers();
    out.notes = adversary_->notes(numbers);
    out.more.insert(numbers.begin(), numbers.end());
  }
  const auto taken = [&out](const char* name) { return out.more.extract(name).mapped(); };
  out.loss = taken(kTotal);
  out.grad_norm = taken(kNorm);
  out.lr = rates.lr;
  const double skipped = out.more.at(kSkipped);
  // Most steps broken: the weights have run away, and must not become the newest checkpoint.
  if (skipped > 0.5) out.loss = std::numeric_limits<double>::quiet_NaN();
  if (skipped == 0) {
    out.more.erase(kSkipped);
  } else if (!std::exchange(skipped_, true)) {
    out.notes.push_back(fmt::format(
        "steps are left out because their loss or gradient is not finite ({} is their share); a lower --lr or --clip, "
        "a longer --warmup or --dtype float32 may help",
        kSkipped));
  }
  return out;
}

torch::Tensor TokenizerTrainer::backward(const TokenizerOutput& output, const torch::Tensor& pictures, int64_t step) {
  const double vq_weight = recipe_.training.vq;
  torch::Tensor vq;
  if (vq_weight > 0) {
    means_.add("vq", output.quantized.loss);
    vq = output.quantized.loss * vq_weight;
  }
  if (!is_against(step)) {
    auto total = picture_loss(output.pictures, pictures);
    if (vq.defined()) total = total + vq;
    total.backward();
    return total.detach();
  }
  // Both gradients stop at the pixels. What they are at the last layer needs one product each, and the tokenizer is
  // gone through once, with their weighted sum: equal to two passes through the last layer's share of the network.
  const auto leaf = output.pictures.detach().requires_grad_();
  const auto reconstruction = picture_loss(leaf, pictures);
  const auto of_reconstruction = torch::autograd::grad({reconstruction}, {leaf})[0];
  const auto push = adversary_->push(output.pictures, step);
  torch::Tensor reconstruction_there, adversarial_there;
  if (adversary_->adaptive()) {
    reconstruction_there = at_last_layer(output.pictures, of_reconstruction);
    adversarial_there = at_last_layer(output.pictures, push.gradient);
  }
  const auto weight = adversary_->weight(reconstruction_there, adversarial_there, step);
  means_.add("adversarial_weight", weight);
  std::vector<torch::Tensor> roots = {output.pictures}, gradients = {of_reconstruction + weight * push.gradient};
  auto total = reconstruction.detach() + weight * push.loss;
  if (vq.defined()) {
    roots.push_back(vq);
    gradients.push_back(at::ones_like(vq));
    total = total + vq.detach();
  }
  torch::autograd::backward(roots, gradients);
  return total;
}

torch::Tensor TokenizerTrainer::at_last_layer(const torch::Tensor& decoded, const torch::Tensor& gradient) const {
  const auto weight = find_tensor(named_parameters(*tokenizer_), kLastLayer);
  return torch::autograd::grad({decoded}, {weight}, {gradient}, /*retain_graph=*/true)[0];
}

torch::Tensor TokenizerTrainer::picture_loss(const torch::Tensor& decoded, const torch::Tensor& pictures) {
  const auto& training = recipe_.training;
  std::vector<LossTerm> terms;
  if (training.l2 > 0) terms.push_back({"l2", training.l2, at::mse_loss(decoded, pictures)});
  if (training.l1 > 0) terms.push_back({"l1", training.l1, at::l1_loss(decoded, pictures)});
  if (training.perceptual > 0) {
    const AutocastGuard autocast(device_.type(), dtype_);
    terms.push_back({"perceptual", training.perceptual, perceptual_->forward(pictures, decoded).mean()});
  }
  auto total = at::zeros({}, pictures.options());
  for (const auto& term : terms) {
    means_.add(term.name, term.value);
    total = total + term.weight * term.value;
  }
  return total;
}

int64_t TokenizerTrainer::scales_used(int64_t step) const {
  const int64_t all = tokenizer_->scales().count(), least = recipe_.training.quantizer_dropout_from;
  if (recipe_.training.quantizer_dropout <= 0 || least >= all) return 0;
  auto generator = purpose_generator(seed_, Purpose::quantizer_dropout, step);
  if (at::rand({}, generator).item<double>() >= recipe_.training.quantizer_dropout) return 0;
  return at::randint(least, all, {}, generator, at::kLong).item<int64_t>();
}

void TokenizerTrainer::start_codebook(const torch::Tensor& pictures, at::Generator& generator) {
  if (continuous_steps_ == 0) {
    if (recipe_.training.codebook_start != "kmeans") return;
    const at::NoGradGuard no_grad;
    const AutocastGuard autocast(device_.type(), dtype_);
    codebook_->collect(tokenizer_->forward_continuous(pictures).quantized.residuals, generator);
  }
  codebook_->start_from_collected(generator);
}

void TokenizerTrainer::guard_codebook(const QuantizerOutput& quantized, int64_t step, at::Generator& generator) {
  const auto& training = recipe_.training;
  if (is_continuous(step)) {
    // Only the newest batches are kept, so earlier ones need not be drawn from.
    if (step + CodebookTrainingOptions{}.batches_kept >= continuous_steps_) {
      codebook_->collect(quantized.residuals, generator);
    }
    return;
  }
  const bool moves = training.codebook_decay > 0;
  const bool restarts =
      training.restart_every > 0 && static_cast<double>(step) < training.restart_until * static_cast<double>(steps_);
  if (moves || restarts) codebook_->update(quantized, moves);
  const int64_t since_start = step - continuous_steps_ + 1;
  if (!restarts || since_start % training.restart_every != 0) return;
  const auto restarted = codebook_->restart(quantized.residuals, generator);
  if (!moves && restarted.numel() > 0) forget_moments(restarted);
}

void TokenizerTrainer::forget_moments(const torch::Tensor& codes) {
  const at::NoGradGuard no_grad;
  const auto state = optimizer_->state();
  for (const char* moment : {".exp_avg", ".exp_avg_sq"}) {
    find_tensor(state, std::string(kCodebook) + moment).index_fill_(0, codes, 0);
  }
  if (!ema_) return;
  const auto codebook = tokenizer_->quantizer()->codebook().detach();
  find_tensor(ema_->weights(), kCodebook).index_copy_(0, codes, codebook.index_select(0, codes));
}

NamedTensors TokenizerTrainer::training_state() const {
  NamedTensors state;
  for (const auto& [name, tensor] : codebook_->state()) state.emplace_back("codebook." + name, tensor);
  for (const auto& [name, tensor] : tokenizer_->quantizer()->training_state()) {
    state.emplace_back("quantizer." + name, tensor);
  }
  return state;
}

void TokenizerTrainer::save(const CheckpointWriter& checkpoint) {
  auto& files = checkpoint.operations();
  save_tokenizer(checkpoint.file("model.safetensors"), tokenizer_, {}, files);
  if (ema_) save_tokenizer(checkpoint.file("ema.safetensors"), tokenizer_, ema_->weights(), files);
  write_weights(checkpoint.file("optimizer.safetensors"),
                {.tensors = optimizer_->state(), .metadata = {{"format", "nextscale.optimizer"}}}, files);
  write_weights(checkpoint.file("codebook.safetensors"),
                {.tensors = training_state(), .metadata = {{"format", "nextscale.codebook_training"}}}, files);
  if (!adversary_) return;
  write_weights(checkpoint.file(kDiscriminator),
                {.tensors = adversary_->state(), .metadata = {{"format", "nextscale.discriminator"}}}, files);
  write_weights(checkpoint.file(kDiscriminatorOptimizer),
                {.tensors = adversary_->optimizer_state(), .metadata = {{"format", "nextscale.optimizer"}}}, files);
}

void TokenizerTrainer::load(const std::filesystem::path& checkpoint) {
  const auto read = [&](const char* name) { return read_weights(checkpoint / name).tensors; };
  const auto where = [&](const char* name) { return (checkpoint / name).string(); };
  load_state_dict(*tokenizer_, read("model.safetensors"), where("model.safetensors"));
  if (ema_) ema_->load(read("ema.safetensors"), where("ema.safetensors"));
  optimizer_->load_state(read("optimizer.safetensors"), where("optimizer.safetensors"));
  restore(training_state(), read("codebook.safetensors"), where("codebook.safetensors"));
  if (!adversary_) return;
  restore(adversary_->state(), read(kDiscriminator), where(kDiscriminator));
  adversary_->load_optimizer(read(kDiscriminatorOptimizer), where(kDiscriminatorOptimizer));
}

void TokenizerTrainer::save_snapshot(const std::filesystem::path& path) {
  save_tokenizer(path, tokenizer_, ema_ ? ema_->weights() : NamedTensors{});
}

std::vector<std::string> TokenizerTrainer::data_faults() const { return nextscale::data_faults(parts_); }

uint64_t TokenizerTrainer::checkpoint_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : state_dict(*tokenizer_)) bytes += tensor.nbytes();
  bytes *= ema_ ? 4 : 3;  // weights, their average, two moments
  for (const auto& [name, tensor] : training_state()) bytes += tensor.nbytes();
  if (adversary_) {
    for (const auto& [name, tensor] : adversary_->state()) bytes += 3 * tensor.nbytes();
  }
  return bytes;
}

int64_t TokenizerTrainer::values() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : named_parameters(*tokenizer_)) count += tensor.numel();
  return count;
}

}  // namespace nextscale
