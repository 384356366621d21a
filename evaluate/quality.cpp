#include "nextscale/evaluate/quality.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/data/loader.h"
#include "nextscale/data/picture.h"
#include "nextscale/evaluate/frechet.h"

namespace nextscale {
namespace {

void require_same(const std::string& where, const std::string& what, int64_t expected, int64_t got) {
  if (expected == got) return;
  throw failure({where, what, std::to_string(expected), std::to_string(got)});
}

void require_fitting(const Classifier& classifier, const Tokenizer& tokenizer, const DataParts& parts) {
  const auto& options = classifier->options();
  require_same("reference pictures", "number of classes is not the classifier's", options.classes, parts.classes());
  require_same("reference pictures", "side is not the classifier's", options.side, parts.side);
  require_same("reference pictures", "channels are not the classifier's", options.channels, parts.channels);
  if (!parts.val || parts.val->size() == 0) {
    throw failure({.where = "reference pictures", .what = "no held-out part (see --val-share)"});
  }
  if (tokenizer.is_empty()) return;
  require_same("tokenizer", "side is not that of the pictures", parts.side, tokenizer->options().picture_side());
  require_same("tokenizer", "channels are not those of the pictures", parts.channels, tokenizer->options().channels);
}

Judged judge_all(const std::string& label, Classifier& classifier, const Dataset& dataset, const DataParts& parts,
                 const DataOptions& data, const JudgeSettings& settings, bool quiet) {
  Progress progress(label, dataset.size(), "pictures", quiet);
  return judge_dataset(classifier, dataset, parts, data, settings, [&](int64_t done) { progress.update(done); });
}

TokenizerQuality measure_tokenizer(Tokenizer& tokenizer, Classifier& classifier, const Dataset& dataset,
                                   const DataParts& parts, const DataOptions& data, const JudgeSettings& settings,
                                   bool quiet) {
  const at::NoGradGuard no_grad;
  tokenizer->to(settings.device);
  tokenizer->eval();
  TokenizerQuality quality{.codes = tokenizer->options().quantizer.codes, .pictures = dataset.size(), .features = {}};
  auto used = at::zeros({quality.codes}, at::kBool);
  double decibels = 0;
  std::vector<at::Tensor> features;
  Progress progress("reconstruct", dataset.size(), "pictures", quiet);
  for (int64_t first = 0; first < dataset.size(); first += settings.batch) {
    const int64_t count = std::min(settings.batch, dataset.size() - first);
    const auto pictures = load_in_order(dataset, parts, data, first, count).pictures.to(settings.device);
    at::Tensor tokens, again;  // (B, L), (B, C, side, side)
    {
      const AutocastGuard autocast(settings.device.type(), settings.dtype);
      tokens = tokenizer->encode(pictures);
      again = tokenizer->decode(tokens).to(at::kFloat);
    }
    used.index_fill_(0, tokens.flatten().cpu(), true);
    // Equal pictures would be infinitely good: 1e-10 is 100 dB.
    const auto error = (pictures - again).square().mean({1, 2, 3}).div(4).clamp_min(1e-10);  // (B), of [0, 1]
    decibels += error.log10().mul(-10).sum().item<double>();
    const auto bytes = bytes_from_network_range(again).permute({0, 3, 1, 2});
    features.push_back(judge_pictures(classifier, to_network_range(bytes), settings).features);
    progress.update(first + count);
  }
  quality.psnr = decibels / static_cast<double>(dataset.size());
  quality.codes_used = used.sum().item<int64_t>();
  quality.features = at::cat(features);
  return quality;
}

at::Tensor rows(const at::Tensor& features, const std::vector<int64_t>& positions, int64_t begin, int64_t end) {
  const std::vector<int64_t> some(positions.begin() + begin, positions.begin() + end);
  return features.index_select(0, at::tensor(some, at::kLong));
}

}  // namespace

std::optional<double> Quality::ratio() const {
  if (!reconstructed) return std::nullopt;
  return sampled / std::max(*reconstructed, 1e-12);
}

Quality measure_quality(Classifier& classifier, Tokenizer tokenizer, const Judged& sampled, const DataParts& parts,
                        const DataOptions& data, const QualityOptions& options, const JudgeSettings& settings,
                        uint64_t seed, bool quiet) {
  require_fitting(classifier, tokenizer, parts);
  const auto training = judge_all("training pictures", classifier, *parts.train, parts, data, settings, quiet);
  const auto held_out = judge_all("held-out pictures", classifier, *parts.val, parts, data, settings, quiet);

  Quality quality;
  quality.accuracy = held_out.accuracy();
  quality.held_out_count = parts.val->size();
  quality.sampled_count = sampled.features.size(0);
  quality.real_count = std::min(options.real_pictures, parts.train->size() / 2);
  const int64_t n = quality.real_count;
  const auto positions = chosen_positions(parts.train->size(), 2 * n, derived_seed(seed, 0));
  const auto side = rows(training.features, positions, 0, n);
  const auto distance = [&](const at::Tensor& features) {
    const auto found = frechet_distance(side, features);
    quality.deficient = quality.deficient || found.deficient();
    return found.value;
  };
  quality.real = distance(rows(training.features, positions, n, 2 * n));
  quality.sampled = distance(sampled.features);
  if (!tokenizer.is_empty()) {
    const auto chosen = chosen_positions(parts.val->size(), options.real_pictures, derived_seed(seed, 1));
    quality.tokenizer =
        measure_tokenizer(tokenizer, classifier, *subset(parts.val, chosen), parts, data, settings, quiet);
    // The chosen pictures are in random order, so the first of them are a fair part.
    quality.reconstructed_count = std::min(quality.sampled_count, quality.tokenizer->pictures);
    quality.reconstructed = distance(quality.tokenizer->features.slice(0, 0, quality.reconstructed_count));
  }
  quality.memorisation = memorisation(sampled.features, training.features, held_out.features);
  return quality;
}

}  // namespace nextscale
