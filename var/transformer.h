#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/base/options.h"
#include "nextscale/base/scales.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/var/kv_cache.h"

namespace nextscale {

struct TransformerOptions {
  int64_t codes = 4096;     // V of the tokenizer
  int64_t code_width = 32;  // Cvae of the tokenizer
  std::vector<int64_t> sides = {1, 2, 3, 4, 5, 6, 8, 10, 13, 16};
  int64_t classes = 1000;  // label `classes` is the label-free class; 0 = unconditional
  int64_t depth = 16;
  int64_t width = 1024;  // C
  int64_t heads = 16;
  double mlp_ratio = 4.0;
  bool shared_aln = false;
  bool attn_l2_norm = true;      // L2-normalised q and k with a learned scale per head
  double attention_scale = 0.0;  // without l2 norm, times 1/sqrt(head width): 0 = the reference's 0.25
  double norm_eps = 1e-6;
  double drop_rate = 0.0;
  double attn_drop_rate = 0.0;
  double drop_path = 0.0;  // of the last block; grows linearly from 0

  static constexpr auto table();
};
// table() has codes, code_width, sides, classes too: they are config entries of a checkpoint. The train verb takes them
// from tokenizer and data and offers only the rest (see `architecture_options`).

std::vector<BoundOption> bind_transformer_options(TransformerOptions& options);
void check_together(const TransformerOptions& options);
/// d16, d20, d24, d30, d36-s (published), or fast.
TransformerOptions transformer_preset(const std::string& name);

/// Block-causal transformer over token maps (VAR paper, section 3; reference models/var.py).
/// State-dict names and order equal the reference's, buffers lvl_1L and attn_bias_for_masking included on export only
/// where they cost nothing (see var/transformer.cpp).
class TransformerImpl : public torch::nn::Module {
 public:
  explicit TransformerImpl(const TransformerOptions& options);

  const TransformerOptions& options() const { return options_; }
  const Scales& scales() const { return scales_; }
  int64_t label_free_class() const { return options_.classes; }

  /// The published initial values (reference init_weights). @param generator CPU
  void initialise(at::Generator generator);

  /// Training: logits of all positions.
  /// @param labels (B) int64 in [0, classes]; label dropout is the caller's (drop_labels)
  /// @param inputs (B, L - l_0, Cvae) float32, teacher forcing; for fewer scales (progressive training) that many positions
  /// @param generator draws of stochastic depth and dropout; none = the default generator
  /// @returns (B, L, V) float32
  torch::Tensor forward(const torch::Tensor& labels, const torch::Tensor& inputs,
                        std::optional<at::Generator> generator = std::nullopt);

  /// Sampling, scale by scale. The cache is made once per batch and holds condition, keys and values of earlier scales.
  /// @param labels (B) int64; with guidance the caller hands in conditional and label-free labels joined (2B)
  KvCache begin_sampling(const torch::Tensor& labels);
  /// @param inputs (B or 2B, l_k, Cvae) float32 of scale k; undefined for k = 0
  /// @returns logits (.., l_k, V) float32
  torch::Tensor step(int64_t k, const torch::Tensor& inputs, KvCache& cache);
};
TORCH_MODULE(Transformer);

/// Reference's draw: rand(B) < rate replaces a label by the label-free class.
torch::Tensor drop_labels(const torch::Tensor& labels, int64_t label_free_class, double rate, at::Generator& generator);

/// One safetensors file, format nextscale.transformer. @param file_or_run file or run folder
Transformer load_transformer(const std::filesystem::path& file_or_run, bool raw = false);
void save_transformer(const std::filesystem::path& path, const Transformer& transformer, const NamedTensors& weights = {});

}  // namespace nextscale
