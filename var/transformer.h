#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/base/scales.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/file_operations.h"
#include "nextscale/var/attention.h"
#include "nextscale/var/block.h"
#include "nextscale/var/kv_cache.h"
#include "nextscale/var/layers.h"

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
  // Initial values (reference init_weights with the defaults of build_vae_var). Not needed once there are weights.
  double init_std = -1;            // of linear layers and embeddings; -1 = sqrt(1 / (3 width))
  double init_position_std = -1;   // of position and level embeddings; -1 = sqrt(1 / (3 width))
  double init_adaln = 0.5;         // factor on the layers that make AdaLN's scales and shifts
  double init_adaln_gamma = 1e-5;  // factor on those that make its gates
  double init_head = 0.02;         // factor on the head

  static constexpr auto table() {
    using O = TransformerOptions;
    return std::tuple{
        option("codes", &O::codes, "codes of the tokenizer's codebook", between(2, 1 << 24)),
        option("code_width", &O::code_width, "width of a code", between(1, 1 << 16)),
        option("sides", &O::sides, "sides of the token maps, coarsest first", between(1, 1024)),
        option("classes", &O::classes, "number of classes; 0 = unconditional", between(0, 1 << 24)),
        option("depth", &O::depth, "blocks", between(1, 1024)),
        option("width", &O::width, "width of the transformer", between(1, 1 << 16)),
        option("heads", &O::heads, "attention heads; must divide the width", between(1, 1024)),
        option("mlp_ratio", &O::mlp_ratio, "width of the feed-forward's hidden layer in units of width",
               between(0.01, 64.0)),
        option("shared_aln", &O::shared_aln, "one AdaLN projection for all blocks (the published 512 px model)"),
        option("attn_l2_norm", &O::attn_l2_norm, "unit queries and keys with a learned scale per head"),
        option("attention_scale", &O::attention_scale,
               "factor of the logits without attn-l2-norm, times 1/sqrt(head width); 0 = the reference's 0.25",
               between(0.0, 100.0)),
        option("norm_eps", &O::norm_eps, "epsilon of the layer norms", between(1e-12, 0.1)),
        option("drop_rate", &O::drop_rate, "dropout behind attention and feed-forward", between(0.0, 0.95)),
        option("attn_drop_rate", &O::attn_drop_rate, "dropout of attention weights", between(0.0, 0.95)),
        option("drop_path", &O::drop_path,
               "stochastic depth: probability of skipping a branch of the last block; "
               "grows linearly from 0 at the first",
               between(0.0, 0.95)),
        option("init_std", &O::init_std, "standard deviation of initial weights; -1 = sqrt(1 / (3 width))",
               between(-1.0, 1.0)),
        option("init_position_std", &O::init_position_std,
               "that of position and level embeddings; -1 = sqrt(1 / (3 width))", between(-1.0, 1.0)),
        option("init_adaln", &O::init_adaln, "factor on initial AdaLN scales and shifts", between(0.0, 10.0)),
        option("init_adaln_gamma", &O::init_adaln_gamma, "factor on initial AdaLN gates", between(0.0, 10.0)),
        option("init_head", &O::init_head, "factor on the head's initial weights", between(0.0, 10.0)),
    };
  }
};

/// All rows, for the config in a file.
std::vector<BoundOption> bind_transformer_options(TransformerOptions& options);
/// Without codes, code_width, sides and classes: what the train verb offers; those four come from tokenizer and data.
std::vector<BoundOption> architecture_options(TransformerOptions& options);
/// Relations between options. @throws Error usage
void check_together(const TransformerOptions& options);
/// d16, d20, d24, d30, d36-s (published), or fast. @throws Error usage for another name
TransformerOptions transformer_preset(const std::string& name);

/// Block-causal transformer over token maps (VAR paper, section 3; reference models/var.py).
/// State-dict names and order equal the reference's but for `attn_bias_for_masking`: training needs no (L, L) mask, so
/// the module has none; reading ignores it and reference_state_dict adds it for export.
class TransformerImpl : public torch::nn::Module {
 public:
  /// Weights are zero until initialise or load. @throws Error usage if options do not fit together
  explicit TransformerImpl(const TransformerOptions& options, at::Device device = at::kCPU);

  const TransformerOptions& options() const { return options_; }
  const Scales& scales() const { return scales_; }
  int64_t label_free_class() const { return options_.classes; }

  /// The published initial values (reference init_weights; var/initialisation.h). @param generator CPU
  void initialise(at::Generator generator);

  /// Training: logits of all positions.
  /// @param labels (B) int64 in [0, classes]; label dropout is the caller's (drop_labels)
  /// @param inputs (B, L - l_0, Cvae) float32, teacher forcing; for fewer scales (progressive training) that many
  /// positions
  /// @param generator draws of stochastic depth and dropout; none = the default generator
  /// @returns (B, L, V) float32
  /// @throws Error failure if the inputs do not end where a scale ends
  torch::Tensor forward(const torch::Tensor& labels, const torch::Tensor& inputs,
                        std::optional<at::Generator> generator = std::nullopt);

  /// Sampling, scale by scale. The cache is made once per batch and holds condition, keys and values of earlier scales.
  /// Keys and values are kept in the type of the caller's autocast, everything between the blocks in float32 (as the
  /// reference does). One AutocastGuard around the whole batch lets every step share the casts of weights that need a
  /// gradient; for others there is keep_matrices_in.
  /// @param labels (B) int64; with guidance the caller hands in conditional and label-free labels joined (2B)
  KvCache begin_sampling(const torch::Tensor& labels);
  /// The same into the memory of an earlier batch's cache, for work that is recorded on it (var/step_graphs.h).
  /// @returns false, and nothing was done, if the cache is empty, of another size or arithmetic, or without its keys
  bool begin_again(const torch::Tensor& labels, KvCache& cache);
  /// Scales come in order, each once; the module must be in evaluation mode for dropout-free results.
  /// @param inputs (B or 2B, l_k, Cvae) float32 of scale k; undefined for k = 0. Half the cache's batch is used for
  /// both halves.
  /// @returns logits (.., l_k, V) float32
  torch::Tensor step(int64_t k, const torch::Tensor& inputs, KvCache& cache);

  /// Rounds the blocks' matrices for good: half the memory, and no cast of all of them for every scale. Afterwards only
  /// sampling under autocast to this type works.
  void keep_matrices_in(at::ScalarType dtype);
  /// From now on training under autocast to `dtype` takes rounded copies of the blocks' and the head's matrices, which
  /// get their gradients, instead of casting matrices and gradients in every step. On a CPU.
  /// @returns the copies, leaves, each under its matrix' name
  NamedTensors round_for_training(at::ScalarType dtype);

  /// Training attention; automatic unless a test or a benchmark compares paths.
  void set_attention_path(AttentionPath path);
  /// Training keeps each block's input alone and runs the block again in the backward pass: the same bits, a third more
  /// work, a fraction of the memory.
  void set_checkpointing(bool on) { checkpointing_ = on; }

 private:
  int64_t scale_count_of(const torch::Tensor& inputs) const;
  const AttentionPlan& plan_for(int64_t scale_count, const at::TensorOptions& options);
  std::vector<Modulation> modulations(const torch::Tensor& condition, at::ScalarType dtype);
  torch::Tensor position_table(int64_t length);
  KvCache conditions(const torch::Tensor& labels);  // a cache without keys and values
  torch::Tensor head(const torch::Tensor& x, const torch::Tensor& scale, const torch::Tensor& shift,
                     at::ScalarType dtype);
  std::pair<torch::Tensor, torch::Tensor> head_modulation(const torch::Tensor& condition);

  TransformerOptions options_;
  Scales scales_;
  torch::Tensor pos_start_, pos_1LC_, lvl_1L_;
  Linear word_embed_{nullptr};
  Embedding class_emb_{nullptr}, lvl_embed_{nullptr};
  ConditionProjection shared_ada_lin_{nullptr};
  std::vector<Block> blocks_;
  ConditionProjection head_ada_lin_{nullptr};
  Linear head_{nullptr};

  AttentionPath path_ = AttentionPath::automatic;
  bool checkpointing_ = false;
  AttentionPlan plan_;  // of the last forward; made again when scales, dtype or device change
  int64_t plan_scales_ = 0;
  at::TensorOptions plan_options_;
};
TORCH_MODULE(Transformer);

/// Reference's draw: rand(B) < rate replaces a label by the label-free class. It draws even with rate 0.
torch::Tensor drop_labels(const torch::Tensor& labels, int64_t label_free_class, double rate, at::Generator& generator);

/// Copies weights under the reference's names into the module. Entries that follow from the options may be missing
/// (lvl_1L, zero_k_bias); attn_bias_for_masking is ignored.
/// @param where names the file in errors
/// @param copied told of each given tensor when it has been copied
/// @throws Error failure for another name or shape, or levels of another pyramid, before anything was changed
void load_transformer_weights(Transformer& transformer, NamedTensors weights, const std::string& where,
                              const std::function<void(const at::Tensor&)>& copied = {});
/// The reference's state dict, attn_bias_for_masking included, in its order (for use in Python).
NamedTensors reference_state_dict(const Transformer& transformer);

/// What the user says of a file that carries no config (options of every verb that loads one).
struct TransformerHints {
  std::optional<std::vector<int64_t>> sides;
  std::optional<int64_t> heads;
  std::optional<double> norm_eps;
};

/// Of our files, of state dicts of the reference (safetensors or .pth), and of whole checkpoints of its trainer
/// (trainer.var_wo_ddp). Without a config in the file the options follow from names and shapes
/// (var/transformer_from_weights.h). @param file_or_run file or run folder
/// @throws Error failure if it holds no transformer, or its config and its weights do not agree; usage if a hint
/// contradicts the file
Transformer load_transformer(const std::filesystem::path& file_or_run, bool raw = false,
                             const TransformerHints& hints = {});
/// @param weights  state dict to store instead of the module's own (EMA); empty = its own
/// @param metadata further entries, e.g. class_names and tokenizer_hash (train/transformer_trainer.h)
void save_transformer(const std::filesystem::path& path, const Transformer& transformer,
                      const NamedTensors& weights = {}, const std::map<std::string, std::string>& metadata = {},
                      FileOperations& operations = system_files());

}  // namespace nextscale
