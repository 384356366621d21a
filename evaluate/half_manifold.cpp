#include "nextscale/evaluate/half_manifold.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>

namespace nextscale {
namespace {

constexpr int64_t kHalfBlock = 10'000;  // ADM's: it decides what is done again in float32
constexpr int64_t kRowsOfBlock = 512;   // of a block, for memory

/// max(|u|² - 2 u·v + |v|², 0) with every step in the type of the arguments but sums in float32.
/// @param u (a, D), @param v (b, D) float16 or float32 @returns (a, b) float32
at::Tensor squared_distances(const at::Tensor& u, const at::Tensor& v) {
  const auto type = u.scalar_type();
  const auto norms = [&](const at::Tensor& rows) { return at::sum(rows.square(), 1, false, at::kFloat).to(type); };
  const auto norms_u = norms(u), norms_v = norms(v);
  const auto wide_v = v.to(at::kFloat).t();  // (D, b)
  auto distances = at::empty({u.size(0), v.size(0)}, at::kFloat);
  for (int64_t begin = 0; begin < u.size(0); begin += kRowsOfBlock) {
    const int64_t end = std::min(begin + kRowsOfBlock, u.size(0));
    const auto products = u.slice(0, begin, end).to(at::kFloat).mm(wide_v).to(type);
    distances.slice(0, begin, end)
        .copy_((norms_u.slice(0, begin, end).unsqueeze(1) - products * 2 + norms_v).clamp_min(0));
  }
  return distances;
}

/// One block, as ADM's script computes it. @param u (a, D), @param v (b, D) float32
at::Tensor block_of_distances(const at::Tensor& u, const at::Tensor& v) {
  auto distances = squared_distances(u.to(at::kHalf), v.to(at::kHalf));
  return distances.sum().isfinite().item<bool>() ? distances : squared_distances(u, v);
}

/// (n) float32: squared radii of one set.
template <typename Done>
at::Tensor radii_of(const at::Tensor& rows, int64_t k, const Done& done) {
  std::vector<at::Tensor> radii;
  for (const auto& u : rows.split(kHalfBlock)) {
    at::Tensor nearest;  // (a, k + 1) ascending
    for (const auto& v : rows.split(kHalfBlock)) {
      auto some = std::get<0>(block_of_distances(u, v).topk(std::min(k + 1, v.size(0)), 1, /*largest=*/false));
      if (nearest.defined()) some = at::cat({nearest, some}, 1);
      nearest = std::get<0>(some.topk(std::min(k + 1, some.size(1)), 1, /*largest=*/false));
      done(u.size(0) * v.size(0));
    }
    radii.push_back(nearest.select(1, k));
  }
  return at::cat(radii);
}

}  // namespace

Manifold compare_manifolds_in_half(const at::Tensor& generated, const at::Tensor& reference, int64_t k,
                                   const PairProgress& progress) {
  const auto g = generated.detach().to(at::kCPU, at::kFloat), r = reference.detach().to(at::kCPU, at::kFloat);
  const int64_t n = g.size(0), m = r.size(0);
  int64_t pairs = 0;
  const auto done = [&](int64_t some) {
    pairs += some;
    if (progress) progress(pairs, n * n + m * m + n * m);
  };
  const auto of_reference = radii_of(r, k, done), of_generated = radii_of(g, k, done);
  auto balls = at::zeros({n}, at::kLong);
  auto recalled = at::zeros({m}, at::kBool), covered = at::zeros({m}, at::kBool);
  for (int64_t j = 0; j < m; j += kHalfBlock) {
    const int64_t j_end = std::min(j + kHalfBlock, m);
    for (int64_t i = 0; i < n; i += kHalfBlock) {
      const int64_t i_end = std::min(i + kHalfBlock, n);
      const auto distances = block_of_distances(r.slice(0, j, j_end), g.slice(0, i, i_end));  // (references, generated)
      const auto in_reference = distances <= of_reference.slice(0, j, j_end).unsqueeze(1);
      balls.slice(0, i, i_end) += in_reference.sum(0);
      covered.slice(0, j, j_end).logical_or_(in_reference.any(1));
      recalled.slice(0, j, j_end).logical_or_((distances <= of_generated.slice(0, i, i_end)).any(1));
      done((j_end - j) * (i_end - i));
    }
  }
  Manifold found{.precision_count = (balls > 0).sum().item<int64_t>(),
                 .recall_count = recalled.sum().item<int64_t>(),
                 .coverage_count = covered.sum().item<int64_t>(),
                 .balls = balls.sum().item<int64_t>()};
  found.precision = static_cast<double>(found.precision_count) / static_cast<double>(n);
  found.recall = static_cast<double>(found.recall_count) / static_cast<double>(m);
  found.density = static_cast<double>(found.balls) / static_cast<double>(k * n);
  found.coverage = static_cast<double>(found.coverage_count) / static_cast<double>(m);
  return found;
}

}  // namespace nextscale
