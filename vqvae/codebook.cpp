#include "nextscale/vqvae/codebook.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/argmin.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/xlogy.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/functional/normalization.h>

namespace nextscale {
namespace {

// A block of distances of this many values stays in the cache until its rows have been searched.
constexpr int64_t kBlockValues = 1 << 18;

// First smallest value of a row. Sixteen running minima become vector instructions, which LibTorch's argmin, comparing
// pairs of value and index, does not.
int64_t first_smallest(const float* row, int64_t count) {
  constexpr int64_t kLanes = 16;
  std::array<float, kLanes> low;
  low.fill(row[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) low[lane] = row[i + lane] < low[lane] ? row[i + lane] : low[lane];
  }
  float smallest = *std::min_element(low.begin(), low.end());
  for (; i < count; ++i) smallest = row[i] < smallest ? row[i] : smallest;
  const auto* found = std::find(row, row + count, smallest);
  return found == row + count ? 0 : found - row;  // a row of NaN has no smallest
}

at::Tensor argmin_rows(const at::Tensor& distances) {
  if (!distances.is_cpu()) return at::argmin(distances, 1);
  auto indices = at::empty({distances.size(0)}, at::kLong);
  const auto* values = distances.const_data_ptr<float>();
  auto* out = indices.mutable_data_ptr<int64_t>();
  const int64_t columns = distances.size(1);
  at::parallel_for(0, distances.size(0), std::max<int64_t>(1, 32768 / columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) out[row] = first_smallest(values + row * columns, columns);
  });
  return indices;
}

// Runs `search` over blocks of rows.
template <class Search>
at::Tensor by_blocks(const at::Tensor& vectors, int64_t codes, const Search& search) {
  const int64_t rows = vectors.size(0);
  const int64_t block = vectors.is_cpu() ? std::max<int64_t>(64, kBlockValues / codes) : rows;
  if (rows <= block) return search(vectors);
  auto out = at::empty({rows}, vectors.options().dtype(at::kLong));
  for (int64_t at = 0; at < rows; at += block) {
    const int64_t count = std::min(block, rows - at);
    out.narrow(0, at, count).copy_(search(vectors.narrow(0, at, count)));
  }
  return out;
}

double perplexity_of(const at::Tensor& counts) {
  const auto p = counts.to(at::kDouble) / counts.sum().clamp_min(1);
  return std::exp(-at::xlogy(p, p).sum().item<double>());
}

}  // namespace

at::Tensor unit_rows(const at::Tensor& x) {
  return torch::nn::functional::normalize(x, torch::nn::functional::NormalizeFuncOptions().dim(1));
}

at::Tensor nearest_codes(const at::Tensor& vectors, const at::Tensor& codebook, bool cosine) {
  const at::NoGradGuard no_grad;
  const int64_t codes = codebook.size(0);
  if (cosine) {
    const auto directions = unit_rows(codebook).t();  // (Cvae, V)
    return by_blocks(vectors, codes, [&](const at::Tensor& block) {
      return argmin_rows(at::matmul(unit_rows(block), directions).neg_());
    });
  }
  const auto code_norms = codebook.square().sum(1);  // (V)
  const auto transposed = codebook.t();
  return by_blocks(vectors, codes, [&](const at::Tensor& block) {
    auto distances = block.square().sum(1, /*keepdim=*/true) + code_norms;  // (N, V)
    return argmin_rows(distances.addmm_(block, transposed, /*beta=*/1, /*alpha=*/-2));
  });
}

void start_codebook_uniform(at::Tensor codebook, at::Generator& generator) {
  const at::NoGradGuard no_grad;
  const double bound = 1 / (36 * std::sqrt(static_cast<double>(codebook.size(1))));
  codebook.uniform_(-bound, bound, generator);
}

CodeUsage::CodeUsage(const Scales& scales, int64_t codes)
    : scales_(scales),
      counts_(at::zeros({scales.count(), codes}, at::kLong)),
      pictures_(static_cast<size_t>(scales.count()), 0) {}

void CodeUsage::add(const at::Tensor& tokens) {
  for (int64_t k = 0; k < scales_.count() && scales_.end(k) <= tokens.size(1); ++k) {
    const auto ids = tokens.narrow(1, scales_.begin(k), scales_.area(k)).reshape(-1);
    counts_[k].add_(at::bincount(ids, {}, counts_.size(1)).to(at::kCPU));
    pictures_[static_cast<size_t>(k)] += tokens.size(0);
  }
}

void CodeUsage::clear() {
  counts_.zero_();
  std::fill(pictures_.begin(), pictures_.end(), 0);
}

std::vector<double> CodeUsage::used_shares() const {
  std::vector<double> shares;
  for (int64_t k = 0; k < scales_.count(); ++k) {
    const auto hits = static_cast<double>(pictures_[static_cast<size_t>(k)] * scales_.area(k));
    const double margin = 0.08 * hits / static_cast<double>(counts_.size(1));
    const auto used = counts_[k].ge(margin).logical_and(counts_[k].gt(0));
    shares.push_back(used.to(at::kDouble).mean().item<double>());
  }
  return shares;
}

std::vector<double> CodeUsage::perplexities() const {
  std::vector<double> all;
  for (int64_t k = 0; k < scales_.count(); ++k) all.push_back(perplexity_of(counts_[k]));
  return all;
}

double CodeUsage::used_share() const { return counts_.sum(0).gt(0).to(at::kDouble).mean().item<double>(); }

double CodeUsage::perplexity() const { return perplexity_of(counts_.sum(0)); }

}  // namespace nextscale
