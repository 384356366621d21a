#include "nextscale/evaluate/neighbours.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr int64_t kQueriesAtATime = 512;

at::Tensor checked_rows(const at::Tensor& rows, const std::string& what) {
  if (rows.dim() != 2 || rows.size(0) == 0) {
    throw failure({what, "no feature rows", "(n, D) with n at least 1", shape_text(rows.sizes())});
  }
  const auto wide = rows.detach().to(at::kCPU, at::kDouble);
  if (!wide.isfinite().all().item<bool>()) throw failure({.where = what, .what = "values that are not finite"});
  return wide;
}

/// (q, k) indices of the references nearest to the queries of one block of queries.
at::Tensor candidates(const at::Tensor& queries, const at::Tensor& references, const at::Tensor& norms, int64_t k,
                      int64_t block) {
  at::Tensor best_scores, best;
  for (int64_t begin = 0; begin < references.size(0); begin += block) {
    const int64_t end = std::min(begin + block, references.size(0));
    // |q|^2 is the same for all references of a query and left out.
    const auto scores = at::addmm(norms.slice(0, begin, end).unsqueeze(0), queries, references.slice(0, begin, end).t(),
                                  1, -2);  // (q, block)
    auto [values, indices] = scores.topk(std::min(k, end - begin), 1, /*largest=*/false);
    indices = indices + begin;
    if (best.defined()) {
      values = at::cat({best_scores, values}, 1);
      indices = at::cat({best, indices}, 1);
      const auto kept = values.topk(std::min(k, values.size(1)), 1, /*largest=*/false);
      values = std::get<0>(kept);
      indices = indices.gather(1, std::get<1>(kept));
    }
    best_scores = values;
    best = indices;
  }
  return best;
}

}  // namespace

Neighbours nearest_neighbours(const at::Tensor& queries, const at::Tensor& references, int64_t k, int64_t block) {
  const auto from = checked_rows(queries, "queries"), to = checked_rows(references, "references");
  if (from.size(1) != to.size(1)) {
    throw failure({"nearest neighbours", "widths of the features differ", std::to_string(to.size(1)),
                   std::to_string(from.size(1))});
  }
  if (k < 1 || k > to.size(0)) {
    throw failure({"nearest neighbours", "k is out of range", "1 to " + std::to_string(to.size(0)), std::to_string(k)});
  }
  const auto mean = to.mean(0, /*keepdim=*/true);
  const auto centred = to - mean;
  const auto norms = centred.square().sum(1);
  std::vector<at::Tensor> distances, indices;
  for (const auto& some : from.split(kQueriesAtATime)) {
    const auto found = candidates(some - mean, centred, norms, k, std::max(block, int64_t{1}));  // (q, k)
    const auto chosen = to.index_select(0, found.flatten()).view({some.size(0), k, -1});
    const auto exact = (some.unsqueeze(1) - chosen).square().sum(2).sqrt();
    const auto order = exact.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/false);
    distances.push_back(exact.gather(1, order));
    indices.push_back(found.gather(1, order));
  }
  return {at::cat(distances), at::cat(indices)};
}

Memorisation memorisation(const at::Tensor& samples, const at::Tensor& training, const at::Tensor& held_out,
                          double fraction) {
  const auto of_samples = nearest_neighbours(samples, training, 1).distances;
  const auto of_held_out = nearest_neighbours(held_out, training, 1).distances;
  Memorisation result;
  result.held_out_median = of_held_out.median().item<double>();
  result.sample_median = of_samples.median().item<double>();
  const double near = fraction * result.held_out_median;
  // <= so that copies count even where half of the held-out pictures are copies too and the median is 0.
  result.share = (of_samples <= near).to(at::kDouble).mean().item<double>();
  result.held_out_share = (of_held_out <= near).to(at::kDouble).mean().item<double>();
  return result;
}

}  // namespace nextscale
