#include "nextscale/var/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>

#include "nextscale/var/accumulated_attention.h"
#include "nextscale/var/bfloat16_operators.h"

namespace nextscale {
namespace {

// First scales that share one masked call: seven of the published pyramid (140 tokens).
constexpr int64_t kGroupedLength = 160;

// (end - begin, end): 0 where the key's scale is not after the query's, else -inf.
at::Tensor mask_of(const Scales& scales, int64_t first, int64_t last, const at::TensorOptions& options) {
  const int64_t begin = scales.begin(first), end = scales.end(last);
  const auto mask = at::zeros({end - begin, end}, options);
  for (int64_t k = first; k < last; ++k) {  // a query of scale k sees nothing from end(k) on
    mask.narrow(0, scales.begin(k) - begin, scales.area(k))
        .narrow(1, scales.end(k), end - scales.end(k))
        .fill_(-std::numeric_limits<double>::infinity());
  }
  return mask;
}

// (B, H, l, c), (B, H, n, c), (B, H, n, c) -> (B, H, l, c)
torch::Tensor written_out(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          const at::Tensor& mask, double scale, double dropout,
                          const std::optional<at::Generator>& generator) {
  auto scores = at::matmul(scale == 1 ? q : q * scale, k.transpose(-2, -1));  // (B, H, l, n)
  if (mask.defined()) scores.add_(mask);
  auto weights = at::softmax(scores, -1);
  if (dropout > 0) weights = weights * keep_mask(weights.sizes(), 1 - dropout, weights, generator);
  return at::matmul(weights.to(v.dtype()), v);
}

// Scores that may be alive at once.
constexpr int64_t kScoresAtOnce = int64_t{1} << 23;

// (B, H, l, c), (B, H, n, c), (B, H, n, c) -> (B, H, l, c). In bfloat16 on a CPU the library's fused kernel reaches a
// fifth of what its matrix products do (docs/benchmarks.md).
torch::Tensor by_products(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, double scale) {
  const auto queries = q.flatten(0, 1), keys = k.flatten(0, 1), values = v.flatten(0, 1);  // (B * H, ., c)
  auto out = at::empty(queries.sizes(), queries.options());
  const int64_t heads = queries.size(0);
  const int64_t at_once = std::clamp<int64_t>(kScoresAtOnce / (queries.size(1) * keys.size(1)), 1, heads);
  for (int64_t first = 0; first < heads; first += at_once) {
    const auto some = [&](const torch::Tensor& t) { return t.narrow(0, first, std::min(at_once, heads - first)); };
    const auto weights = scaled_softmax(at::bmm(some(queries), some(keys).transpose(1, 2)), scale);
    some(out).copy_(at::bmm(weights, some(values)));
  }
  return out.view_as(q);
}

}  // namespace

AttentionPlan plan_attention(const Scales& scales, int64_t scale_count, AttentionPath path,
                             const at::TensorOptions& options) {
  if (path == AttentionPath::automatic) {
    path = options.device().is_cpu() ? AttentionPath::accumulated : AttentionPath::grouped;
  }
  int64_t grouped = scale_count;  // scales of the first piece
  if (path == AttentionPath::prefix) grouped = 1;
  if (path == AttentionPath::grouped || path == AttentionPath::accumulated) {
    for (grouped = 1; grouped < scale_count && scales.end(grouped) <= kGroupedLength;) ++grouped;
  }
  AttentionPlan plan{.path = path, .pieces = {}};
  plan.pieces.push_back({0, scales.end(grouped - 1), {}});
  if (grouped > 1) plan.pieces.front().mask = mask_of(scales, 0, grouped - 1, options);
  for (int64_t k = grouped; k < scale_count; ++k) plan.pieces.push_back({scales.begin(k), scales.end(k), {}});
  return plan;
}

torch::Tensor block_causal_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                     const AttentionPlan& plan, double scale, double dropout,
                                     const std::optional<at::Generator>& generator) {
  if (plan.path == AttentionPath::accumulated && dropout == 0) return accumulated_attention(q, k, v, plan, scale);
  std::vector<at::Tensor> parts;
  parts.reserve(plan.pieces.size());
  for (const auto& piece : plan.pieces) {
    const auto queries = q.narrow(2, piece.begin, piece.end - piece.begin);  // (B, H, l, c)
    const auto keys = k.narrow(2, 0, piece.end), values = v.narrow(2, 0, piece.end);
    // The library's kernel takes no generator, so dropout is written out.
    const auto part =
        plan.path == AttentionPath::written_out || dropout > 0
            ? written_out(queries, keys, values, piece.mask, scale, dropout, generator)
            : at::scaled_dot_product_attention(
                  queries, keys, values, piece.mask.defined() ? std::optional<at::Tensor>(piece.mask) : std::nullopt,
                  0.0, false, scale);
    parts.push_back(part.transpose(1, 2));  // (B, l, H, c)
  }
  return (parts.size() == 1 ? parts.front() : at::cat(parts, 1)).flatten(2);  // (B, L, C)
}

SelfAttentionImpl::SelfAttentionImpl(const AttentionOptions& options, at::Device device)
    : options_(options),
      scale_(options.l2_norm ? 1.0
                             : (options.scale > 0 ? options.scale : 0.25) /
                                   std::sqrt(static_cast<double>(options.width / options.heads))) {
  if (options.l2_norm) scale_mul_ = register_parameter("scale_mul_1H11", at::zeros({1, options.heads, 1, 1}, device));
  q_bias_ = register_parameter("q_bias", at::zeros({options.width}, device));
  v_bias_ = register_parameter("v_bias", at::zeros({options.width}, device));
  zero_k_bias_ = register_buffer("zero_k_bias", at::zeros({options.width}, device));
  mat_qkv_ = register_module("mat_qkv", Linear(options.width, 3 * options.width, false, device));
  proj_ = register_module("proj", Linear(options.width, options.width, true, device));
}

void SelfAttentionImpl::keep_matrices_in(at::ScalarType dtype) {
  mat_qkv_->keep_in(dtype);
  proj_->keep_in(dtype);
}

SelfAttentionImpl::Projected SelfAttentionImpl::project(const torch::Tensor& x, bool contiguous) const {
  const int64_t batch = x.size(0), length = x.size(1);
  auto qkv = at::linear(x, mat_qkv_->weight(), at::cat({q_bias_, zero_k_bias_, v_bias_}))
                 .view({batch, length, 3, options_.heads, options_.width / options_.heads})
                 .permute({2, 0, 3, 1, 4});  // (3, B, H, L, c)
  if (contiguous) qkv = qkv.contiguous();    // one copy here instead of one in each matmul
  const auto parts = qkv.unbind(0);
  auto q = parts[0], k = parts[1];
  const auto& v = parts[2];
  if (options_.l2_norm) {
    // Norms and factors in float32 under autocast too, as the reference's run on a GPU.
    const auto inverse_norm = [](const torch::Tensor& t) {
      return at::linalg_vector_norm(t, 2, at::IntArrayRef{-1}, true, at::kFloat).clamp_min(1e-12).reciprocal();
    };
    q = (q * (inverse_norm(q) * scale_mul_.clamp_max(std::log(100.0)).exp())).to(v.dtype());
    k = (k * inverse_norm(k)).to(v.dtype());
  }
  return {q, k, v};
}

torch::Tensor SelfAttentionImpl::forward(const torch::Tensor& x, const AttentionPlan& plan,
                                         const std::optional<at::Generator>& generator) {
  const auto [q, k, v] = project(x, plan.by_products());
  const auto attended = block_causal_attention(q, k, v, plan, scale_, is_training() ? options_.dropout : 0, generator);
  auto y = proj_->forward(attended);
  if (is_training() && options_.projection_dropout > 0) {
    y = y * keep_mask(y.sizes(), 1 - options_.projection_dropout, y, generator);
  }
  return y;
}

torch::Tensor SelfAttentionImpl::step(const torch::Tensor& x, const torch::Tensor& keys, const torch::Tensor& values,
                                      int64_t position) {
  const int64_t length = x.size(1);
  const auto [q, k, v] = project(x, false);
  keys.narrow(2, position, length).copy_(k);
  values.narrow(2, position, length).copy_(v);
  const auto all_keys = keys.narrow(2, 0, position + length), all_values = values.narrow(2, 0, position + length);
  const auto attended = q.is_cpu() && q.scalar_type() == at::kBFloat16
                            ? by_products(q, all_keys, all_values, scale_)
                            : at::scaled_dot_product_attention(q, all_keys, all_values, {}, 0.0, false, scale_);
  return proj_->forward(attended.transpose(1, 2).flatten(2));
}

}  // namespace nextscale
