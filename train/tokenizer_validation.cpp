#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/runtime.h"
#include "nextscale/data/picture_quality.h"
#include "nextscale/train/metrics_log.h"
#include "nextscale/train/pictures.h"
#include "nextscale/train/previews.h"
#include "nextscale/train/token_source.h"
#include "nextscale/train/tokenizer_trainer.h"

namespace nextscale {
namespace {

constexpr int64_t kShown = 8;          // pictures in the preview
constexpr int64_t kPerScale = 256;     // pictures that are decoded after every scale
constexpr double kSettledShare = 0.1;  // of the steps after the start of the codebook, before which nothing is alarming

/// Peak signal-to-noise ratio of each picture in dB; pictures span 2. (N)
torch::Tensor psnr(const torch::Tensor& decoded, const torch::Tensor& pictures) {
  return nextscale::psnr(decoded.clamp(-1, 1), pictures, 2);
}

/// Sums over validation's pictures.
struct Measures {
  double psnr = 0;
  int64_t pictures = 0;
  std::vector<double> scale_psnr;
  int64_t scale_pictures = 0;
};

/// Decodes a batch, of the first ones after every scale.
/// @returns after_scale of this batch; empty where it was not asked for
std::vector<torch::Tensor> measure(Tokenizer& tokenizer, const torch::Tensor& pictures, Measures& sums,
                                   CodeUsage& usage) {
  const auto tokens = tokenizer->encode(pictures);  // (n, L)
  usage.add(tokens);
  std::vector<torch::Tensor> after_scale;
  torch::Tensor decoded;
  if (sums.pictures < kPerScale) {
    after_scale = tokenizer->decode_per_scale(tokens);
    decoded = after_scale.back();
    sums.scale_psnr.resize(after_scale.size(), 0);
    for (size_t k = 0; k < after_scale.size(); ++k) {
      sums.scale_psnr[k] += psnr(after_scale[k], pictures).sum().item<double>();
    }
    sums.scale_pictures += pictures.size(0);
  } else {
    decoded = tokenizer->decode(tokens);
  }
  sums.psnr += psnr(decoded, pictures).sum().item<double>();
  sums.pictures += pictures.size(0);
  return after_scale;
}

std::vector<torch::Tensor> first_of(const std::vector<torch::Tensor>& all, int64_t count) {
  std::vector<torch::Tensor> some;
  for (const auto& one : all) some.push_back(one.narrow(0, 0, std::min(count, one.size(0))));
  return some;
}

}  // namespace

std::vector<int64_t> collapsed_scales(const CodeUsage& usage, const Scales& scales, int64_t pictures) {
  std::vector<int64_t> collapsed;
  const auto perplexities = usage.perplexities();
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto most = static_cast<double>(std::min(usage.counts().size(1), pictures * scales.area(k)));
    if (perplexities[static_cast<size_t>(k)] < std::min(most, std::max(2.0, most / 100))) collapsed.push_back(k);
  }
  return collapsed;
}

std::map<std::string, double> TokenizerTrainer::validate(int64_t step) {
  const at::NoGradGuard no_grad;
  warning_.clear();
  if (parts_.val->size() == 0) return {};
  std::optional<Ema::Swap> averaged;
  if (ema_) averaged.emplace(*tokenizer_, *ema_);
  tokenizer_->eval();
  const bool has_codes = step > continuous_steps_;
  const auto& scales = tokenizer_->scales();
  // In a short run validation must not cost more than training.
  const int64_t most = recipe_.training.validation_pictures;
  const int64_t during = std::clamp<int64_t>(steps_ * recipe_.loop.batch / 20, std::min<int64_t>(most, 64), most);
  const auto chosen = fixed_subset(parts_.val->size(), step < steps_ ? during : most);
  const int64_t at_once = recipe_.model.pictures_at_once(device_);
  Measures sums;
  CodeUsage usage(scales, recipe_.model.quantizer.codes);
  preview_ = torch::Tensor();
  for (int64_t first = 0; first < chosen.size(0); first += at_once) {
    const auto indices = chosen.narrow(0, first, std::min(at_once, chosen.size(0) - first));
    const auto pictures = to_device(load_chosen(*parts_.val, parts_, data_, indices).pictures, device_)
                              .contiguous(at::MemoryFormat::ChannelsLast);
    const AutocastGuard autocast(device_.type(), dtype_);
    if (!has_codes) {
      const auto decoded = tokenizer_->forward_continuous(pictures).pictures;
      sums.psnr += psnr(decoded, pictures).sum().item<double>();
      sums.pictures += pictures.size(0);
      continue;
    }
    const auto after_scale = measure(tokenizer_, pictures, sums, usage);
    const bool can_be_drawn = pictures.size(1) == 1 || pictures.size(1) == 3;
    if (first == 0 && can_be_drawn) {
      preview_ = reconstruction_grid(first_of({pictures}, kShown)[0], first_of(after_scale, kShown), scales);
    }
  }
  tokenizer_->train();

  std::map<std::string, double> numbers = {{"psnr", sums.psnr / static_cast<double>(sums.pictures)},
                                           {"pictures", static_cast<double>(sums.pictures)}};
  if (!has_codes) return numbers;
  numbers["used_codes"] = std::round(usage.used_share() * static_cast<double>(recipe_.model.quantizer.codes));
  numbers["perplexity"] = usage.perplexity();
  const auto shares = usage.used_shares(), perplexities = usage.perplexities();
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto at = static_cast<size_t>(k);
    numbers[with_scale("psnr", scales.map(k))] = sums.scale_psnr[at] / static_cast<double>(sums.scale_pictures);
    numbers[with_scale("usage", scales.map(k))] = shares[at];
    numbers[with_scale("perplexity", scales.map(k))] = perplexities[at];
  }
  const double settled = static_cast<double>(continuous_steps_) + kSettledShare * static_cast<double>(steps_);
  if (static_cast<double>(step) >= settled) {
    for (const int64_t k : collapsed_scales(usage, scales, sums.pictures)) {
      warning_ += fmt::format("{}scale {} collapses: its codes are used as unevenly as if there were {:.1f}",
                              warning_.empty() ? "" : "; ", with_scale("", scales.map(k)).substr(1),
                              perplexities[static_cast<size_t>(k)]);
    }
    if (!warning_.empty()) warning_ += " (--continuous, --codebook-decay, --restart-every guard against it)";
  }
  return numbers;
}

}  // namespace nextscale
