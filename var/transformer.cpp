#include "nextscale/var/transformer.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include "nextscale/base/checkpointed.h"
#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/var/initialisation.h"

namespace nextscale {
namespace {

const TransformerOptions& checked(const TransformerOptions& options) {
  check_together(options);
  return options;
}

// What the blocks compute in: the caller's autocast type, else float32.
at::ScalarType main_dtype(at::DeviceType device) {
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : at::kFloat;
}

// The scale of each position, (1, L) int64.
at::Tensor levels(const Scales& scales, at::Device device) {
  const auto table = at::zeros({1, scales.length()}, at::kLong);
  for (int64_t k = 0; k < scales.count(); ++k) table.narrow(1, scales.begin(k), scales.area(k)).fill_(k);
  return table.to(device);
}

// Groups children under a name without behaviour of its own ("blocks", "head_nm").
struct NamedGroupImpl : torch::nn::Module {};
TORCH_MODULE(NamedGroup);

BlockOptions block_options(const TransformerOptions& o, int64_t block) {
  // Linear from 0 at the first block; float32 steps as the reference's linspace.
  const auto rates = at::linspace(0, o.drop_path, o.depth, at::kFloat);
  return {.attention = {.width = o.width,
                        .heads = o.heads,
                        .l2_norm = o.attn_l2_norm,
                        .scale = o.attention_scale,
                        .dropout = o.attn_drop_rate,
                        .projection_dropout = o.drop_rate},
          .feed_forward = {.width = o.width, .hidden = feed_forward_width(o), .dropout = o.drop_rate},
          .shared_aln = o.shared_aln,
          .norm_eps = o.norm_eps,
          .drop_path = rates[block].item<double>()};
}

// block->forward that keeps its inputs alone for the backward pass; there it draws what it drew before.
torch::Tensor checkpointed_block(Block block, const torch::Tensor& x, const Modulation& m, const AttentionPlan& plan,
                                 const std::optional<at::Generator>& generator) {
  const auto draws = std::make_shared<std::optional<at::Generator>>(generator);
  const auto again = generator ? generator->clone() : at::Generator();
  const auto forward = [block, plan, draws](const std::vector<torch::Tensor>& t) mutable {
    return block->forward(t[0], {t[1], t[2], t[3], t[4], t[5], t[6]}, plan, *draws);
  };
  auto y = checkpointed(forward, {x, m.gamma1, m.gamma2, m.scale1, m.scale2, m.shift1, m.shift2});
  if (generator) *draws = again;
  return y;
}

}  // namespace

TransformerImpl::TransformerImpl(const TransformerOptions& options, at::Device device)
    : options_(checked(options)), scales_(options.sides) {
  const int64_t width = options.width;
  pos_start_ = register_parameter("pos_start", at::zeros({1, scales_.area(0), width}, device));
  pos_1LC_ = register_parameter("pos_1LC", at::zeros({1, scales_.length(), width}, device));
  lvl_1L_ = register_buffer("lvl_1L", levels(scales_, device));
  word_embed_ = register_module("word_embed", Linear(options.code_width, width, true, device));
  class_emb_ = register_module("class_emb", Embedding(options.classes + 1, width, device));
  lvl_embed_ = register_module("lvl_embed", Embedding(scales_.count(), width, device));
  if (options.shared_aln) {
    shared_ada_lin_ = register_module("shared_ada_lin", ConditionProjection(width, 6, device));
  }
  NamedGroup blocks, head_norm;
  register_module("blocks", blocks);
  for (int64_t i = 0; i < options.depth; ++i) {
    blocks_.push_back(blocks->register_module(std::to_string(i), Block(block_options(options, i), device)));
  }
  register_module("head_nm", head_norm);
  head_ada_lin_ = head_norm->register_module("ada_lin", ConditionProjection(width, 2, device));
  head_ = register_module("head", Linear(width, options.codes, true, device));
}

void TransformerImpl::initialise(at::Generator generator) { initialise_transformer(*this, options_, generator); }

void TransformerImpl::set_attention_path(AttentionPath path) {
  path_ = path;
  plan_scales_ = 0;
}

int64_t TransformerImpl::scale_count_of(const torch::Tensor& inputs) const {
  const int64_t length = scales_.area(0) + (inputs.defined() ? inputs.size(1) : 0);
  for (int64_t k = 0; k < scales_.count(); ++k) {
    if (scales_.end(k) == length) return k + 1;
  }
  throw failure(
      {.where = "transformer inputs",
       .what = "do not end where a scale ends",
       .expected = std::to_string(scales_.length() - scales_.area(0)) + " positions for all scales " + scales_.text(),
       .got = std::to_string(length - scales_.area(0))});
}

const AttentionPlan& TransformerImpl::plan_for(int64_t scale_count, const at::TensorOptions& options) {
  const bool same = plan_scales_ == scale_count && plan_options_.dtype() == options.dtype() &&
                    plan_options_.device() == options.device();
  if (!same) {
    plan_ = plan_attention(scales_, scale_count, path_, options);
    plan_scales_ = scale_count;
    plan_options_ = options;
  }
  return plan_;
}

std::vector<Modulation> TransformerImpl::modulations(const torch::Tensor& condition, at::ScalarType dtype) {
  auto activated = at::silu(condition);                                      // (B, C)
  if (options_.shared_aln) activated = shared_ada_lin_->forward(activated);  // (B, 1, 6, C)
  std::vector<Modulation> all;
  all.reserve(blocks_.size());
  for (const auto& block : blocks_) all.push_back(block->modulation(activated, dtype));
  return all;
}

torch::Tensor TransformerImpl::position_table(int64_t length) {
  return lvl_embed_->forward(lvl_1L_.narrow(1, 0, length)) + pos_1LC_.narrow(1, 0, length);  // (1, length, C)
}

std::pair<torch::Tensor, torch::Tensor> TransformerImpl::head_modulation(const torch::Tensor& condition) {
  const AutocastGuard full(condition.device().type(), at::kFloat);
  const auto both = head_ada_lin_->forward(at::silu(condition));  // (B, 1, 2, C)
  return {both.select(2, 0) + 1, both.select(2, 1)};
}

torch::Tensor TransformerImpl::head(const torch::Tensor& x, const torch::Tensor& scale, const torch::Tensor& shift,
                                    at::ScalarType dtype) {
  const AutocastGuard full(x.device().type(), at::kFloat);
  const auto normed = modulated_norm(x.to(at::kFloat), scale, shift, options_.norm_eps);  // (B, L, C)
  const AutocastGuard autocast(x.device().type(), dtype);
  return head_->forward(normed).to(at::kFloat);  // (B, L, V)
}

torch::Tensor TransformerImpl::forward(const torch::Tensor& labels, const torch::Tensor& inputs,
                                       std::optional<at::Generator> generator) {
  const int64_t scale_count = scale_count_of(inputs), length = scales_.end(scale_count - 1);
  const auto device = pos_start_.device();
  const auto dtype = main_dtype(device.type());
  torch::Tensor condition, x;
  {
    const AutocastGuard full(device.type(), at::kFloat);
    condition = class_emb_->forward(labels);  // (B, C)
    x = condition.unsqueeze(1) + pos_start_;  // (B, l_0, C)
    // An empty input still goes through the layer, so that its parameters get (zero) gradients.
    if (inputs.defined()) x = at::cat({x, word_embed_->forward(inputs.to(at::kFloat))}, 1);
    x = (x + position_table(length)).to(dtype);  // (B, length, C)
  }
  const auto& plan = plan_for(scale_count, x.options().requires_grad(std::nullopt));
  const auto block_modulations = modulations(condition, dtype);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = checkpointing_ && at::GradMode::is_enabled()
            ? checkpointed_block(blocks_[i], x, block_modulations[i], plan, generator)
            : blocks_[i]->forward(x, block_modulations[i], plan, generator);
  }
  const auto [scale, shift] = head_modulation(condition);
  return head(x, scale, shift, dtype);
}

void TransformerImpl::keep_matrices_in(at::ScalarType dtype) {
  for (auto& block : blocks_) block->keep_matrices_in(dtype);
}

NamedTensors TransformerImpl::round_for_training(at::ScalarType dtype) {
  NamedTensors copies;
  for (const auto& item : named_modules("", /*include_self=*/false)) {
    const auto& name = item.key();
    auto* const linear = item.value()->as<LinearImpl>();
    if (linear == nullptr || !(name == "head" || name.starts_with("blocks."))) continue;
    copies.emplace_back(name + ".weight", linear->round_for_training(dtype));
  }
  return copies;
}

KvCache TransformerImpl::conditions(const torch::Tensor& labels) {
  const at::NoGradGuard no_grad;
  const AutocastGuard full(pos_start_.device().type(), at::kFloat);
  KvCache cache;
  const auto condition = class_emb_->forward(labels);  // (B, C)
  cache.start = condition.unsqueeze(1) + pos_start_;   // (B, l_0, C)
  cache.positions = position_table(scales_.length());
  cache.modulations = modulations(condition, at::kFloat);
  std::tie(cache.head_scale, cache.head_shift) = head_modulation(condition);
  return cache;
}

KvCache TransformerImpl::begin_sampling(const torch::Tensor& labels) {
  const at::NoGradGuard no_grad;
  const auto device = pos_start_.device();
  const auto dtype = main_dtype(device.type());
  KvCache cache = conditions(labels);
  // Nobody looks back at the last scale: its keys and values are not kept (step).
  const std::vector<int64_t> shape = {labels.size(0), options_.heads, scales_.begin(scales_.count() - 1),
                                      options_.width / options_.heads};
  for (int64_t i = 0; i < options_.depth; ++i) {
    cache.keys.push_back(at::empty(shape, at::TensorOptions().dtype(dtype).device(device)));
    cache.values.push_back(at::empty_like(cache.keys.back()));
  }
  return cache;
}

bool TransformerImpl::begin_again(const torch::Tensor& labels, KvCache& cache) {
  const bool fits = !cache.keys.empty() && cache.keys.back().defined() && cache.batch() == labels.size(0) &&
                    cache.keys.back().scalar_type() == main_dtype(pos_start_.device().type());
  if (!fits) return false;
  const at::NoGradGuard no_grad;
  at::_foreach_copy_(cache.changing(), conditions(labels).changing());
  cache.scale = cache.position = 0;
  return true;
}

torch::Tensor TransformerImpl::step(int64_t k, const torch::Tensor& inputs, KvCache& cache) {
  TORCH_CHECK(k == cache.scale, "scales come in order: expected ", cache.scale, ", got ", k);
  const at::NoGradGuard no_grad;
  torch::Tensor x = cache.start;
  if (k > 0) {
    const AutocastGuard full(cache.start.device().type(), at::kFloat);
    x = word_embed_->forward(inputs.to(at::kFloat));  // (B, l_k, C)
    if (x.size(0) * 2 == cache.batch()) x = x.repeat({2, 1, 1});
  }
  x = x + cache.positions.narrow(1, cache.position, scales_.area(k));
  const bool last = k + 1 == scales_.count();
  torch::Tensor keys, values;  // (B, H, L, c), of one block after another in the last scale
  if (last && !blocks_.empty()) {
    const auto& kept = cache.keys.front();
    keys = at::empty({kept.size(0), kept.size(1), scales_.length(), kept.size(3)}, kept.options());
    values = at::empty_like(keys);
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (last) {
      keys.narrow(2, 0, cache.position).copy_(cache.keys[i]);
      values.narrow(2, 0, cache.position).copy_(cache.values[i]);
      cache.keys[i] = cache.values[i] = torch::Tensor();
    } else {
      keys = cache.keys[i];
      values = cache.values[i];
    }
    x = blocks_[i]->step(x, cache.modulations[i], keys, values, cache.position);
  }
  cache.position = scales_.end(k);
  cache.scale = k + 1;
  // Guidance extrapolates from one row of logits to another, and with them it would their rounding.
  return head(x, cache.head_scale, cache.head_shift, at::kFloat);
}

torch::Tensor drop_labels(const torch::Tensor& labels, int64_t label_free_class, double rate,
                          at::Generator& generator) {
  const auto drawn =
      at::rand({labels.size(0)}, generator, at::TensorOptions().dtype(at::kFloat).device(generator.device()));
  return at::where((drawn < rate).to(labels.device()), label_free_class, labels);
}

}  // namespace nextscale
