#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/base/scales.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/vqvae/phi.h"

namespace nextscale {

/// What turns features into token maps and back; also stored in token caches.
struct QuantizerOptions {
  int64_t codes = 4096;                                            // V
  int64_t code_width = 32;                                         // Cvae
  std::vector<int64_t> sides = {1, 2, 3, 4, 5, 6, 8, 10, 13, 16};  // reference v_patch_nums
  double quant_resi = 0.5;                                         // phi(x) = |r| conv(x) + (1 - |r|) x; 0 = identity
  int64_t share_quant_resi = 4;                                    // 0 one phi per scale, 1 one, n partially shared
  bool znorm = false;                                              // cosine instead of Euclidean nearest code
  double beta = 0.25;                                              // commitment weight

  static constexpr auto table() {
    using O = QuantizerOptions;
    return std::tuple{
        option("codes", &O::codes, "codebook size V", between(2, 1 << 20)),
        option("code_width", &O::code_width, "width of a code, Cvae", between(1, 4096)),
        option("sides", &O::sides, "sides of the token maps, coarse to fine", between(1, 4096)),
        option("quant_resi", &O::quant_resi, "share of phi's convolution in its blend with the input; 0 = no phi",
               between(-1.0, 1.0)),
        option("share_quant_resi", &O::share_quant_resi,
               "phi convolutions: 0 one per scale, 1 one for all, n partially shared", between(0, 256)),
        option("znorm", &O::znorm, "nearest code by cosine instead of Euclidean distance"),
        option("beta", &O::beta, "weight of the commitment loss", between(0.0, 100.0)),
    };
  }
};

struct QuantizerOutput {
  torch::Tensor f_hat;                   ///< (B, Cvae, h, w), straight-through: its gradient reaches f unchanged
  torch::Tensor loss;                    ///< scalar, mean over scales of beta * mse(sg f_hat_k, f) + mse(f_hat_k, sg f)
  torch::Tensor tokens;                  ///< (B, L) int64; of the scales used; undefined without codes
  std::vector<torch::Tensor> residuals;  ///< of each scale, what its codes stand for: (B * l, Cvae), no gradient
};

/// Multi-scale residual quantizer (VAR paper, algorithms 1 and 2; reference models/quant.py, VectorQuantizer2).
/// State-dict names: ema_vocab_hit_SV (K, V), quant_resi.…, embedding.weight. Always float32: switches autocast off.
/// What is const records no gradients.
class ResidualQuantizerImpl : public torch::nn::Module {
 public:
  explicit ResidualQuantizerImpl(const QuantizerOptions& options);

  const QuantizerOptions& options() const { return options_; }
  const Scales& scales() const { return scales_; }
  torch::Tensor codebook() const { return embedding_->weight; }  ///< (V, Cvae), the parameter itself

  /// Training; in training mode it also updates ema_vocab_hit_SV.
  /// @param f (B, Cvae, h, w) @param scales_used decode only the first n scales (quantizer dropout); 0 = all
  QuantizerOutput forward(const torch::Tensor& f, int64_t scales_used = 0);
  /// Start-up without codes: each scale's residual, shrunk to its map, takes the place of its codes; no tokens. All
  /// else is as with codes, straight-through and loss too: phi must learn to blend coarse maps before there is a
  /// codebook. (Gradients through phi instead of the loss left a third of the codes unused after the k-means start.)
  QuantizerOutput forward_continuous(const torch::Tensor& f);

  /// Token maps of all scales, joined: (B, L) int64.
  torch::Tensor encode(const torch::Tensor& f) const;
  /// The same with other maps than the quantizer's own, coarse to fine, any shapes; the last must be f's size.
  torch::Tensor encode(const torch::Tensor& f, const Scales& scales) const;
  /// f_hat after each scale for given tokens: K tensors (B, Cvae, h, w).
  std::vector<torch::Tensor> decode_per_scale(const torch::Tensor& tokens) const;
  /// f_hat after the last scale.
  torch::Tensor decode(const torch::Tensor& tokens) const;
  /// f_hat that grows with the scales instead of being full-size throughout (reference `all_to_max_scale=False`,
  /// experimental there): K tensors (B, Cvae, side_k, side_k).
  std::vector<torch::Tensor> decode_growing(const torch::Tensor& tokens) const;

  /// Teacher-forcing input of the transformer: (B, L) int64 -> (B, L - l_0, Cvae) float32 (reference
  /// idxBl_to_var_input).
  torch::Tensor teacher_forcing_input(const torch::Tensor& tokens) const;

  /// Codebook rows of one map: (B, l) int64 -> (B, Cvae, side_k, side_k).
  torch::Tensor lookup(const torch::Tensor& tokens, int64_t k) const;
  /// Input of the next scale from what is decoded so far (VAR paper, algorithm 2; reference
  /// `get_next_autoregressive_input`).
  /// @param f_hat   (B, Cvae, h, w) float32, sum of the scales before k; changed in place
  /// @param codes   (B, Cvae, side_k, side_k) codebook rows of scale k
  /// @returns       (B, Cvae, side_{k+1}, side_{k+1}), area-resized f_hat; f_hat itself for the last scale
  /// @throws Error  if k is outside [0, K)
  torch::Tensor next_input(int64_t k, torch::Tensor& f_hat, const torch::Tensor& codes) const;

  /// Usage as the reference reports it: per scale, per cent of codes whose running hits in ema_vocab_hit_SV reach 0.08
  /// of an even use of the *finest* map. vqvae/codebook.h, CodeUsage, has each scale's own margin.
  /// @param positions B * h * w of a training batch
  std::vector<double> reference_usages(int64_t positions) const;
  /// What decides the next forward besides the state dict: how often hits were recorded. Shares storage.
  NamedTensors training_state() const { return {{"recorded_hits", recorded_hits_}}; }

 private:
  QuantizerOutput quantized(const torch::Tensor& f, int64_t scales_used, bool with_codes);
  torch::Tensor decoded_codes(const torch::Tensor& codes, int64_t k) const;
  torch::Tensor shrunk(const torch::Tensor& rest, int64_t k);
  torch::Tensor grown(const torch::Tensor& codes, int64_t k);
  void record_hits(const torch::Tensor& ids, int64_t k);
  void check_features(const torch::Tensor& f, const MapSize& map) const;
  void check_tokens(const torch::Tensor& tokens) const;

  QuantizerOptions options_;
  Scales scales_;
  torch::Tensor ema_vocab_hit_SV_;    // (K, V)
  mutable Phis quant_resi_{nullptr};  // LibTorch's forward is not const; ours changes nothing
  torch::nn::Embedding embedding_{nullptr};
  torch::Tensor recorded_hits_;           // int64 scalar on the CPU
  std::vector<torch::Tensor> down_, up_;  // constant matrices of each scale but the last, made when first needed
};
TORCH_MODULE(ResidualQuantizer);

}  // namespace nextscale
