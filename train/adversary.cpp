#include "nextscale/train/adversary.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/rand.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/networks/dino_discriminator.h"
#include "nextscale/networks/patch_discriminator.h"
#include "nextscale/train/augmentation.h"
#include "nextscale/train/seeds.h"

namespace nextscale {
namespace {

constexpr int64_t kReportsBeforeANote = 20;
constexpr double kNearlyAlways = 0.95;
constexpr const char* kSkippedByDiscriminator = "d_skipped_steps";

int64_t share_of(int64_t steps, double share) { return std::llround(share * static_cast<double>(steps)); }

constexpr int64_t kEnoughForBatchNorm = 16;

HeadNormKind norm_kind(const std::string& name, int64_t batch) {
  if (name == "group") return HeadNormKind::group;
  const bool whole_batch = name == "batch" || (name == "auto" && batch >= kEnoughForBatchNorm);
  return whole_batch ? HeadNormKind::batch : HeadNormKind::virtual_batch;
}

std::shared_ptr<Discriminator> made(const AdversaryOptions& options, const AdversarySetting& setting) {
  if (options.discriminator == "patchgan") {
    return std::make_shared<PatchDiscriminatorImpl>(PatchDiscriminatorOptions{
        .channels = setting.channels, .width = options.discriminator_width, .layers = options.discriminator_layers});
  }
  return std::make_shared<DinoDiscriminatorImpl>(load_dino(setting.weights / "dino_deitsmall16_pretrain.pth"),
                                                 norm_kind(options.discriminator_norm, setting.batch));
}

}  // namespace

Adversary::Adversary(const AdversaryOptions& options, const AdversarySetting& setting)
    : options_(options),
      setting_(setting),
      first_step_(share_of(setting.steps, options.adversary_start)),
      ramp_steps_(share_of(setting.steps, options.adversary_ramp)),
      fade_steps_(share_of(setting.steps, options.blur_fade)),
      is_patch_(options.discriminator == "patchgan"),
      network_(made(options, setting)),
      lecam_(options.lecam_decay, setting.device) {
  for (const int64_t batch : {setting.batch, 2 * setting.batch}) {
    network_->check({batch, setting.channels, setting.side, setting.side});
  }
  // Drawn on the CPU whatever the device, so that a seed means the same weights everywhere.
  network_->initialise(purpose_generator(setting.seed, Purpose::discriminator_weights));
  network_->to(setting.device);
  optimizer_ = std::make_unique<AdamW>(named_parameters(*network_), setting.moments, tokenizer_parameter_decays);
}

double Adversary::ramp(int64_t step) const {
  return std::min(1.0, static_cast<double>(step - first_step_ + 1) / static_cast<double>(ramp_steps_ + 1));
}

torch::Tensor Adversary::seen(const torch::Tensor& pictures, int64_t step, at::Generator& draws) const {
  auto x = pictures;
  const int64_t since = step - first_step_;
  if (since < fade_steps_) x = blurred(x, 1 - static_cast<double>(since) / static_cast<double>(fade_steps_));
  if (at::rand({}, draws).item<double>() >= options_.augment) return x;
  return augmented(x, draw_augmentation(x.size(0), draws), {.cutout_share = options_.cutout});
}

torch::Tensor Adversary::logits(const torch::Tensor& pictures, at::Generator& draws) {
  const AutocastGuard autocast(setting_.device.type(), setting_.dtype);
  return network_->forward(pictures.contiguous(at::MemoryFormat::ChannelsLast), draws).to(at::kFloat);
}

Adversary::Push Adversary::push(const torch::Tensor& decoded, int64_t step) {
  auto draws = purpose_generator(setting_.seed, Purpose::seen_by_the_adversary, 2 * step);
  const auto leaf = decoded.detach().requires_grad_();
  // Each as its publisher does: PatchGAN's norms take this batch's statistics, DINO's heads do not learn from it.
  network_->train(is_patch_);
  const auto loss = generator_loss(logits(seen(leaf, step, draws), draws));
  means_.add("g", loss);
  // Only of the pictures: no gradient of the discriminator's weights is computed.
  return {loss.detach(), torch::autograd::grad({loss}, {leaf})[0]};
}

torch::Tensor Adversary::weight(const torch::Tensor& reconstruction, const torch::Tensor& adversarial, int64_t step) {
  const double fixed = options_.adversarial * ramp(step);
  if (!options_.adaptive) return at::full({}, fixed, at::TensorOptions(at::kFloat).device(setting_.device));
  const auto ratio = gradient_ratio(reconstruction, adversarial, options_.adaptive_eps);
  means_.add("adaptive_ratio", ratio);
  means_.add("adaptive_at_low", ratio.lt(options_.adaptive_low).to(at::kFloat));
  means_.add("adaptive_at_high", ratio.gt(options_.adaptive_high).to(at::kFloat));
  return fixed * limited(ratio, {options_.adaptive_eps, options_.adaptive_low, options_.adaptive_high});
}

void Adversary::learn(const torch::Tensor& real, const torch::Tensor& decoded, int64_t step) {
  auto draws = purpose_generator(setting_.seed, Purpose::seen_by_the_adversary, 2 * step + 1);
  network_->train();
  optimizer_->zero_grad();
  const auto both = at::cat({real, decoded});  // (2B, C, H, W)
  const auto halves = [&] {
    const auto pictures = seen(both, step, draws);
    if (!is_patch_) return logits(pictures, draws).chunk(2);
    const auto parts = pictures.chunk(2);
    return std::vector<torch::Tensor>{logits(parts[0], draws), logits(parts[1], draws)};
  };
  const auto answers = halves();
  auto loss = options_.hinge * hinge_loss(answers[0], answers[1]);
  means_.add("d", loss);
  if (options_.consistency > 0) {
    const auto again = halves();
    const auto difference = at::mse_loss(at::cat(again), at::cat(answers));
    means_.add("consistency", difference);
    loss = loss + options_.consistency * difference;
  }
  if (options_.lecam > 0) {
    const auto apart = lecam_(answers[0], answers[1]);
    means_.add("lecam", apart);
    loss = loss + options_.lecam * apart;
  }
  loss.backward();
  const auto norm = optimizer_->clip_gradients(setting_.clip);
  const auto broken = norm.isfinite().logical_and(loss.detach().isfinite()).logical_not().to(at::kFloat);

  auto own = setting_.schedule;
  own.lr = options_.discriminator_lr;
  own.weight_decay = options_.discriminator_weight_decay;
  own.weight_decay_end = 0;
  const int64_t steps = std::max<int64_t>(1, setting_.steps - first_step_);
  own.warmup = std::min(1.0, static_cast<double>(ramp_steps_) / static_cast<double>(steps));
  const auto rates = rates_at(own, step - first_step_, steps);
  optimizer_->step(rates.lr, rates.weight_decay, broken);

  const auto right = accuracy(answers[0], answers[1]);
  means_.add("d_real", answers[0].mean());
  means_.add("d_fake", answers[1].mean());
  means_.add("d_accuracy_real", right.real);
  means_.add("d_accuracy_fake", right.fake);
  means_.add("d_grad_norm", norm);
  means_.add(kSkippedByDiscriminator, broken);
}

std::map<std::string, double> Adversary::numbers() { return means_.take(); }

std::vector<std::string> Adversary::notes(const std::map<std::string, double>& numbers) {
  std::vector<std::string> said;
  const auto value = [&](const std::string& name) {
    const auto found = numbers.find(name);
    return found == numbers.end() ? 0.0 : found->second;
  };
  const auto note = [&](const std::string& what, bool alarming, int64_t reports, const std::string& text) {
    auto& in_a_row = alarming_[what];
    if (in_a_row >= reports) return;  // said
    in_a_row = alarming ? in_a_row + 1 : 0;
    if (in_a_row == reports) said.push_back(text);
  };
  note("skipped", value(kSkippedByDiscriminator) > 0, 1,
       "steps of the discriminator are left out because its loss or gradient is not finite (d_skipped_steps counts "
       "them); a lower --discriminator-lr, --lecam 0.001 or --dtype float32 may help");
  note("exploding", setting_.clip > 0 && value("d_grad_norm") > 100 * setting_.clip, 3,
       fmt::format("the discriminator's gradient norm stays above {}; a lower --discriminator-lr or --lecam 0.001 may "
                   "help",
                   100 * setting_.clip));
  note("winning", std::min(value("d_accuracy_real"), value("d_accuracy_fake")) > kNearlyAlways, kReportsBeforeANote,
       "the discriminator knows nearly every picture: its gradients say little; a longer --blur-fade, --augment 1, "
       "--consistency 8 or a lower --discriminator-lr may help");
  note("silent", value("adaptive_at_low") > kNearlyAlways, kReportsBeforeANote,
       "the adaptive weight stays at its lower limit: the adversarial gradient outweighs the reconstruction's; the "
       "discriminator may be too strong (--discriminator-lr, --augment, --consistency)");
  return said;
}

NamedTensors Adversary::state() const {
  auto state = state_dict(*network_);
  for (const auto& [name, tensor] : lecam_.state()) state.emplace_back("lecam." + name, tensor);
  return state;
}

}  // namespace nextscale
