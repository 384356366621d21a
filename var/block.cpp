#include "nextscale/var/block.h"

#include <ATen/ATen.h>

namespace nextscale {

FeedForwardImpl::FeedForwardImpl(const FeedForwardOptions& options, at::Device device)
    : options_(options),
      fc1_(register_module("fc1", Linear(options.width, options.hidden, true, device))),
      fc2_(register_module("fc2", Linear(options.hidden, options.width, true, device))) {}

torch::Tensor FeedForwardImpl::forward(const torch::Tensor& x, const std::optional<at::Generator>& generator) {
  auto y = fc2_->forward_gelu(fc1_->forward(x));  // (B, L, C)
  if (is_training() && options_.dropout > 0) y = y * keep_mask(y.sizes(), 1 - options_.dropout, y, generator);
  return y;
}

void FeedForwardImpl::keep_matrices_in(at::ScalarType dtype) {
  fc1_->keep_in(dtype);
  fc2_->keep_in(dtype);
}

BlockImpl::BlockImpl(const BlockOptions& options, at::Device device) : options_(options) {
  const int64_t width = options.attention.width;
  if (options.shared_aln) ada_gss_ = register_parameter("ada_gss", at::zeros({1, 1, 6, width}, device));
  attn_ = register_module("attn", SelfAttention(options.attention, device));
  ffn_ = register_module("ffn", FeedForward(options.feed_forward, device));
  if (!options.shared_aln) ada_lin_ = register_module("ada_lin", ConditionProjection(width, 6, device));
}

Modulation BlockImpl::modulation(const torch::Tensor& condition, at::ScalarType dtype) const {
  const auto all =
      (options_.shared_aln ? ada_gss_ + condition : ada_lin_->forward(condition)).to(dtype);  // (B, 1, 6, C)
  const auto scales = all.narrow(2, 2, 2) + 1;
  return {.gamma1 = all.select(2, 0),
          .gamma2 = all.select(2, 1),
          .scale1 = scales.select(2, 0),
          .scale2 = scales.select(2, 1),
          .shift1 = all.select(2, 4),
          .shift2 = all.select(2, 5)};
}

torch::Tensor BlockImpl::gate(const torch::Tensor& gamma, const std::optional<at::Generator>& generator) const {
  if (!is_training() || options_.drop_path == 0) return gamma;
  return gamma * keep_mask({gamma.size(0), 1, 1}, 1 - options_.drop_path, gamma, generator);
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x, const Modulation& modulation, const AttentionPlan& plan,
                                 const std::optional<at::Generator>& generator) {
  const auto& m = modulation;
  const auto attended = attn_->forward(modulated_norm(x, m.scale1, m.shift1, options_.norm_eps), plan, generator);
  const auto h = at::addcmul(x, attended, gate(m.gamma1, generator));  // (B, L, C)
  const auto fed = ffn_->forward(modulated_norm(h, m.scale2, m.shift2, options_.norm_eps), generator);
  return at::addcmul(h, fed, gate(m.gamma2, generator));
}

void BlockImpl::keep_matrices_in(at::ScalarType dtype) {
  attn_->keep_matrices_in(dtype);
  ffn_->keep_matrices_in(dtype);
}

torch::Tensor BlockImpl::step(const torch::Tensor& x, const Modulation& modulation, const torch::Tensor& keys,
                              const torch::Tensor& values, int64_t position) {
  const auto& m = modulation;
  const auto attended = attn_->step(modulated_norm(x, m.scale1, m.shift1, options_.norm_eps), keys, values, position);
  const auto h = at::addcmul(x, attended, m.gamma1);  // (B, l, C)
  return at::addcmul(h, ffn_->forward(modulated_norm(h, m.scale2, m.shift2, options_.norm_eps), std::nullopt),
                     m.gamma2);
}

}  // namespace nextscale
