#include "nextscale/vqvae/codebook_training.h"

#include <algorithm>

#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "nextscale/base/error.h"
#include "nextscale/vqvae/codebook.h"

namespace nextscale {
namespace {

// Below this a running count says nothing any more, and sum / count is a quotient of roundings.
constexpr double kSmallestCount = 1e-3;

// Indices are drawn on the CPU and moved, so that a GPU run draws the same.
at::Tensor random_rows(const at::Tensor& vectors, int64_t count, at::Generator& generator) {
  const auto drawn = at::randint(vectors.size(0), {count}, generator, at::kLong);
  return vectors.index_select(0, drawn.to(vectors.device()));
}

at::Tensor distinct_rows(const at::Tensor& vectors, int64_t count, at::Generator& generator) {
  const auto order = at::randperm(vectors.size(0), generator, at::kLong);
  return vectors.index_select(0, order.narrow(0, 0, count).to(vectors.device()));
}

struct Clusters {
  at::Tensor counts, sums;  // (V), (V, C)
};
Clusters clusters(const at::Tensor& vectors, const at::Tensor& ids, int64_t codes) {
  return {at::bincount(ids, {}, codes).to(vectors.scalar_type()),
          at::zeros({codes, vectors.size(1)}, vectors.options()).index_add_(0, ids, vectors)};
}

}  // namespace

Centres lloyd_step(const at::Tensor& vectors, const at::Tensor& centres, bool cosine) {
  const at::NoGradGuard no_grad;
  const auto [counts, sums] = clusters(vectors, nearest_codes(vectors, centres, cosine), centres.size(0));
  return {at::where(counts.gt(0).unsqueeze(1), sums / counts.clamp_min(1).unsqueeze(1), centres), counts};
}

at::Tensor kmeans(const at::Tensor& vectors, int64_t codes, int64_t iterations, bool cosine, at::Generator& generator) {
  const at::NoGradGuard no_grad;
  auto centres =
      vectors.size(0) >= codes ? distinct_rows(vectors, codes, generator) : random_rows(vectors, codes, generator);
  for (int64_t i = 0; i < iterations; ++i) {
    const auto moved = lloyd_step(vectors, centres, cosine);
    centres = at::where(moved.counts.gt(0).unsqueeze(1), moved.centres, random_rows(vectors, codes, generator));
  }
  return centres;
}

CodebookTraining::CodebookTraining(ResidualQuantizer quantizer, const CodebookTrainingOptions& options)
    : quantizer_(std::move(quantizer)), options_(options) {
  const auto codebook = quantizer_->codebook().detach();
  const int64_t scales = quantizer_->scales().count();
  counts_ = at::zeros({codebook.size(0)}, codebook.options());
  sums_ = at::zeros(codebook.sizes(), codebook.options());
  collected_ =
      at::zeros({scales, options.batches_kept, options.vectors_per_scale, codebook.size(1)}, codebook.options());
  collected_counts_ = at::zeros({scales, options.batches_kept}, at::kLong);
  next_batch_ = at::zeros({}, at::kLong);
}

void CodebookTraining::collect(const std::vector<at::Tensor>& residuals, at::Generator& generator) {
  const at::NoGradGuard no_grad;
  const int64_t slot = next_batch_.item<int64_t>() % options_.batches_kept;
  const auto kept = some_of_each(residuals, generator);
  for (size_t k = 0; k < kept.size(); ++k) {
    const auto scale = static_cast<int64_t>(k);
    collected_[scale][slot].narrow(0, 0, kept[k].size(0)).copy_(kept[k]);
    collected_counts_[scale][slot] = kept[k].size(0);
  }
  next_batch_.add_(1);
}

void CodebookTraining::start_from_collected(at::Generator& generator) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> vectors;
  for (int64_t k = 0; k < collected_.size(0); ++k) {
    for (int64_t slot = 0; slot < options_.batches_kept; ++slot) {
      vectors.push_back(collected_[k][slot].narrow(0, 0, collected_counts_[k][slot].item<int64_t>()));
    }
  }
  const auto all = placed(at::cat(vectors));  // (N, C)
  if (all.size(0) == 0) throw failure({.where = "codebook", .what = "no residuals were collected to start from"});
  const bool cosine = quantizer_->options().znorm;
  const int64_t codes = counts_.size(0);
  auto codebook = quantizer_->codebook();
  codebook.copy_(kmeans(all, codes, options_.iterations, cosine, generator));

  // The running state starts as if one batch's worth of these vectors had always come.
  const auto found = clusters(all, nearest_codes(all, codebook, cosine), codes);
  const auto batches = std::min(next_batch_.item<int64_t>(), options_.batches_kept);
  counts_.copy_(found.counts / static_cast<double>(batches));
  sums_.copy_(codebook * counts_.unsqueeze(1));
}

void CodebookTraining::update(const QuantizerOutput& quantized, bool move) {
  const at::NoGradGuard no_grad;
  const auto& scales = quantizer_->scales();
  std::vector<at::Tensor> ids;
  for (size_t k = 0; k < quantized.residuals.size(); ++k) {
    const auto scale = static_cast<int64_t>(k);
    ids.push_back(quantized.tokens.narrow(1, scales.begin(scale), scales.area(scale)).reshape(-1));
  }
  const auto batch = clusters(placed(at::cat(quantized.residuals)), at::cat(ids), counts_.size(0));
  // A broken batch must not stay in running sums for ever; asked on the device.
  const auto sound = batch.sums.isfinite().all();
  counts_.copy_(at::where(sound, counts_ * options_.decay + batch.counts * (1 - options_.decay), counts_));
  sums_.copy_(at::where(sound, sums_ * options_.decay + batch.sums * (1 - options_.decay), sums_));
  if (!move) return;
  auto codebook = quantizer_->codebook();
  const auto means = sums_ / counts_.clamp_min(kSmallestCount).unsqueeze(1);
  codebook.copy_(at::where(counts_.gt(kSmallestCount).unsqueeze(1), means, codebook));
}

at::Tensor CodebookTraining::restart(const std::vector<at::Tensor>& residuals, at::Generator& generator) {
  const at::NoGradGuard no_grad;
  const auto least = counts_.mean() * options_.restart_below;
  const auto dead = at::nonzero(counts_.lt(least)).reshape(-1);
  if (dead.numel() == 0) return dead;
  const auto places = random_rows(placed(at::cat(some_of_each(residuals, generator))), dead.numel(), generator);
  quantizer_->codebook().index_copy_(0, dead, places);
  // Twice the limit: light enough to follow its first hits, and given up again if none come for a while.
  const auto count = (least * 2).expand({dead.numel()});
  counts_.index_copy_(0, dead, count);
  sums_.index_copy_(0, dead, places * count.unsqueeze(1));
  return dead;
}

NamedTensors CodebookTraining::state() const {
  return {{"counts", counts_},
          {"sums", sums_},
          {"collected", collected_},
          {"collected_counts", collected_counts_},
          {"next_batch", next_batch_}};
}

std::vector<at::Tensor> CodebookTraining::some_of_each(const std::vector<at::Tensor>& residuals,
                                                       at::Generator& generator) const {
  std::vector<at::Tensor> some;
  for (const auto& vectors : residuals) {
    const int64_t count = std::min(vectors.size(0), options_.vectors_per_scale);
    some.push_back(count < vectors.size(0) ? distinct_rows(vectors, count, generator) : vectors);
  }
  return some;
}

// With cosine lookup only directions decide, and long vectors must not outweigh short ones.
at::Tensor CodebookTraining::placed(const at::Tensor& vectors) const {
  return quantizer_->options().znorm ? unit_rows(vectors) : vectors;
}

}  // namespace nextscale
