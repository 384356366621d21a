#include "nextscale/vqvae/residual_quantizer.h"

#include <algorithm>

#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/zeros.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/vqvae/codebook.h"
#include "nextscale/vqvae/resize.h"

namespace nextscale {
namespace {

// (B, C, h, w) -> (B * h * w, C)
torch::Tensor rows(const torch::Tensor& map) { return map.permute({0, 2, 3, 1}).reshape({-1, map.size(1)}); }

}  // namespace

ResidualQuantizerImpl::ResidualQuantizerImpl(const QuantizerOptions& options)
    : options_(options),
      scales_(options.sides),
      ema_vocab_hit_SV_(register_buffer("ema_vocab_hit_SV", at::zeros({scales_.count(), options.codes}))),
      quant_resi_(register_module("quant_resi", Phis(PhiOptions{options.code_width, options.quant_resi,
                                                                options.share_quant_resi, scales_.count()}))),
      embedding_(register_module("embedding", torch::nn::Embedding(options.codes, options.code_width))),
      recorded_hits_(at::zeros({}, at::kLong)) {}

QuantizerOutput ResidualQuantizerImpl::forward(const torch::Tensor& f, int64_t scales_used) {
  return quantized(f, scales_used <= 0 ? scales_.count() : std::min(scales_used, scales_.count()), /*with_codes=*/true);
}

QuantizerOutput ResidualQuantizerImpl::forward_continuous(const torch::Tensor& f) {
  return quantized(f, scales_.count(), /*with_codes=*/false);
}

QuantizerOutput ResidualQuantizerImpl::quantized(const torch::Tensor& f_in, int64_t scales_used, bool with_codes) {
  check_features(f_in, scales_.last());
  const AutocastGuard float32(f_in.device().type(), at::kFloat);
  const auto f = f_in.to(at::kFloat).contiguous();
  const auto target = f.detach();

  auto rest = target.clone();
  QuantizerOutput out;
  torch::Tensor f_hat;
  std::vector<torch::Tensor> ids;
  for (int64_t k = 0; k < scales_used; ++k) {
    auto codes = shrunk(rest, k);  // (B, Cvae, side_k, side_k), what the codes are to stand for
    out.residuals.push_back(rows(codes));
    if (with_codes) {
      const auto nearest = nearest_codes(out.residuals.back(), embedding_->weight, options_.znorm);
      if (is_training()) record_hits(nearest, k);
      ids.push_back(nearest.view({f.size(0), -1}));
      codes = at::embedding(embedding_->weight, nearest.view({f.size(0), codes.size(2), codes.size(3)}))
                  .permute({0, 3, 1, 2});
    }
    const auto h = quant_resi_(grown(codes, k), k, scales_.count());  // (B, Cvae, h, w)
    f_hat = f_hat.defined() ? f_hat + h : h;
    rest = rest - h.detach();
    const auto loss = at::mse_loss(f_hat.detach(), f).mul_(options_.beta) + at::mse_loss(f_hat, target);
    out.loss = out.loss.defined() ? out.loss + loss : loss;
  }
  out.loss = out.loss / static_cast<double>(scales_used);
  out.f_hat = (f_hat.detach() - target).add_(f);
  if (with_codes) out.tokens = at::cat(ids, 1);
  return out;
}

torch::Tensor ResidualQuantizerImpl::encode(const torch::Tensor& f) const { return encode(f, scales_); }

torch::Tensor ResidualQuantizerImpl::encode(const torch::Tensor& f, const Scales& scales) const {
  check_features(f, scales.last());
  const at::NoGradGuard no_grad;
  const AutocastGuard float32(f.device().type(), at::kFloat);
  // Interpolation as in the reference, not the matrices of training: a rounding may decide between two codes.
  auto rest = f.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous);
  std::vector<torch::Tensor> ids;
  for (int64_t k = 0; k < scales.count(); ++k) {
    const auto& map = scales.map(k);
    const auto vectors = rows(scales.is_last(k) ? rest : area_resize(rest, map));
    const auto nearest = nearest_codes(vectors, embedding_->weight, options_.znorm);
    ids.push_back(nearest.view({f.size(0), -1}));
    if (scales.is_last(k)) break;
    const auto codes = at::embedding(embedding_->weight, nearest.view({f.size(0), map.height, map.width}));
    const auto full = bicubic_resize(codes.permute({0, 3, 1, 2}), scales.last()).contiguous();
    rest.sub_(quant_resi_(full, k, scales.count()));
  }
  return at::cat(ids, 1);
}

std::vector<torch::Tensor> ResidualQuantizerImpl::decode_per_scale(const torch::Tensor& tokens) const {
  check_tokens(tokens);
  const at::NoGradGuard no_grad;
  const AutocastGuard float32(tokens.device().type(), at::kFloat);
  std::vector<torch::Tensor> all;
  for (int64_t k = 0; k < scales_.count(); ++k) {
    const auto h = decoded_codes(lookup(tokens.narrow(1, scales_.begin(k), scales_.area(k)), k), k);
    all.push_back(all.empty() ? h : all.back() + h);
  }
  return all;
}

torch::Tensor ResidualQuantizerImpl::decode(const torch::Tensor& tokens) const {
  return decode_per_scale(tokens).back();
}

std::vector<torch::Tensor> ResidualQuantizerImpl::decode_growing(const torch::Tensor& tokens) const {
  check_tokens(tokens);
  const at::NoGradGuard no_grad;
  const AutocastGuard float32(tokens.device().type(), at::kFloat);
  std::vector<torch::Tensor> all;
  for (int64_t k = 0; k < scales_.count(); ++k) {
    const auto codes = lookup(tokens.narrow(1, scales_.begin(k), scales_.area(k)), k);
    const auto h = quant_resi_(codes, k, scales_.count());
    all.push_back(all.empty() ? h : bicubic_resize(all.back(), scales_.map(k)) + h);
  }
  return all;
}

torch::Tensor ResidualQuantizerImpl::teacher_forcing_input(const torch::Tensor& tokens) const {
  check_tokens(tokens);
  const at::NoGradGuard no_grad;
  const AutocastGuard float32(tokens.device().type(), at::kFloat);
  auto f_hat = at::zeros({tokens.size(0), options_.code_width, scales_.last().height, scales_.last().width},
                         embedding_->weight.options().requires_grad(false));
  std::vector<torch::Tensor> inputs;
  for (int64_t k = 0; k + 1 < scales_.count(); ++k) {
    const auto codes = lookup(tokens.narrow(1, scales_.begin(k), scales_.area(k)), k);
    inputs.push_back(next_input(k, f_hat, codes).flatten(2).transpose(1, 2));  // (B, l, Cvae)
  }
  return inputs.empty() ? at::empty({tokens.size(0), 0, options_.code_width}, f_hat.options()) : at::cat(inputs, 1);
}

torch::Tensor ResidualQuantizerImpl::lookup(const torch::Tensor& tokens, int64_t k) const {
  const at::NoGradGuard no_grad;
  const auto& map = scales_.map(k);
  const auto codes = at::embedding(embedding_->weight, tokens);  // (B, l, Cvae)
  return codes.transpose(1, 2).reshape({tokens.size(0), options_.code_width, map.height, map.width});
}

torch::Tensor ResidualQuantizerImpl::next_input(int64_t k, torch::Tensor& f_hat, const torch::Tensor& codes) const {
  if (k < 0 || k >= scales_.count()) {
    throw failure({"next_input", "no such scale", "0 to " + std::to_string(scales_.count() - 1), std::to_string(k)});
  }
  const at::NoGradGuard no_grad;
  const AutocastGuard float32(codes.device().type(), at::kFloat);
  f_hat.add_(decoded_codes(codes, k));
  return scales_.is_last(k) ? f_hat : area_resize(f_hat, scales_.map(k + 1));
}

std::vector<double> ResidualQuantizerImpl::reference_usages(int64_t positions) const {
  const double margin = static_cast<double>(positions) / static_cast<double>(options_.codes) * 0.08;
  const auto shares = ema_vocab_hit_SV_.ge(margin).to(at::kFloat).mean(1).cpu();
  std::vector<double> percent;
  for (int64_t k = 0; k < scales_.count(); ++k) percent.push_back(static_cast<double>(shares[k].item<float>()) * 100);
  return percent;
}

// What scale k adds to f_hat.
torch::Tensor ResidualQuantizerImpl::decoded_codes(const torch::Tensor& codes, int64_t k) const {
  const auto full = scales_.is_last(k) ? codes : bicubic_resize(codes, scales_.last());
  return quant_resi_(full, k, scales_.count());
}

torch::Tensor ResidualQuantizerImpl::shrunk(const torch::Tensor& rest, int64_t k) {
  if (scales_.is_last(k)) return rest;
  const auto& map = scales_.map(k);
  if (scales_.area(scales_.count() - 1) > kLargestMatrixMap) return area_resize(rest, map);
  down_.resize(static_cast<size_t>(scales_.count()));
  auto& matrix = down_[static_cast<size_t>(k)];
  if (!matrix.defined() || matrix.device() != rest.device()) {
    matrix = area_matrix(scales_.last(), map).to(rest.device());
  }
  return rest.flatten(2).matmul(matrix).view({rest.size(0), rest.size(1), map.height, map.width});
}

torch::Tensor ResidualQuantizerImpl::grown(const torch::Tensor& codes, int64_t k) {
  if (scales_.is_last(k)) return codes.contiguous();
  const auto& last = scales_.last();
  if (scales_.area(scales_.count() - 1) > kLargestMatrixMap) return bicubic_resize(codes, last).contiguous();
  up_.resize(static_cast<size_t>(scales_.count()));
  auto& matrix = up_[static_cast<size_t>(k)];
  if (!matrix.defined() || matrix.device() != codes.device()) {
    matrix = bicubic_matrix(scales_.map(k), last).to(codes.device());
  }
  return codes.flatten(2).contiguous().matmul(matrix).view({codes.size(0), codes.size(1), last.height, last.width});
}

// The reference counts recorded scales, not forwards: only the first scale of the first forward is taken as it is, all
// others are averaged from zero, with 0.9 at first. Kept, because published tokenizers carry the result.
void ResidualQuantizerImpl::record_hits(const torch::Tensor& ids, int64_t k) {
  const at::NoGradGuard no_grad;
  const auto hits = at::bincount(ids, {}, options_.codes).to(at::kFloat);
  auto running = ema_vocab_hit_SV_[k];
  const auto recorded = recorded_hits_.item<int64_t>();  // on the CPU: no synchronisation
  if (recorded == 0) {
    running.copy_(hits);
  } else {
    const double decay = recorded < 100 ? 0.9 : 0.99;
    running.mul_(decay).add_(hits.mul(1 - decay));
  }
  recorded_hits_.add_(1);
}

void ResidualQuantizerImpl::check_features(const torch::Tensor& f, const MapSize& map) const {
  const bool fits =
      f.dim() == 4 && f.size(1) == options_.code_width && f.size(2) == map.height && f.size(3) == map.width;
  if (fits) return;
  const std::vector<int64_t> expected = {f.dim() > 0 ? f.size(0) : 0, options_.code_width, map.height, map.width};
  throw failure({"feature map", "shape differs", shape_text(expected), shape_text(f.sizes())});
}

void ResidualQuantizerImpl::check_tokens(const torch::Tensor& tokens) const {
  const bool is_int64 = tokens.scalar_type() == at::kLong;
  if (tokens.dim() == 2 && tokens.size(1) == scales_.length() && is_int64) return;
  const std::vector<int64_t> expected = {tokens.dim() > 0 ? tokens.size(0) : 0, scales_.length()};
  throw failure({"tokens", "shape or type differs", shape_text(expected) + " int64",
                 shape_text(tokens.sizes()) + " " + (is_int64 ? "int64" : dtype_text(tokens.scalar_type()))});
}

}  // namespace nextscale
