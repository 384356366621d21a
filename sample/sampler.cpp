#include "nextscale/sample/sampler.h"

#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"
#include "nextscale/sample/filter_and_draw.h"
#include "nextscale/sample/fit.h"
#include "nextscale/sample/guidance.h"

namespace nextscale {
namespace {

/// Dropout and stochastic depth are off while one lives; a module in training goes on training afterwards.
class EvaluationGuard {
 public:
  explicit EvaluationGuard(torch::nn::Module& module) : module_(module), was_training_(module.is_training()) {
    module_.eval();
  }
  ~EvaluationGuard() { module_.train(was_training_); }
  EvaluationGuard(const EvaluationGuard&) = delete;
  EvaluationGuard& operator=(const EvaluationGuard&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
};

/// -1 becomes the label-free class; on the transformer's device.
torch::Tensor class_of_labels(const torch::Tensor& labels, const TransformerImpl& transformer) {
  const int64_t classes = transformer.options().classes;
  const auto on_cpu = labels.to(at::kCPU, at::kLong);
  const auto wrong = (on_cpu < -1).logical_or(on_cpu >= classes);
  if (labels.dim() != 1 || labels.numel() == 0 || wrong.any().item<bool>()) {
    throw failure({.where = "labels to sample",
                   .what = "not labels of this model",
                   .expected = "(N) numbers from -1 to " + std::to_string(classes - 1),
                   .got = wrong.any().item<bool>() ? std::to_string(on_cpu.masked_select(wrong)[0].item<int64_t>())
                                                   : shape_text(labels.sizes())});
  }
  return on_cpu.masked_fill(on_cpu < 0, transformer.label_free_class()).to(transformer.parameters().front().device());
}

/// Codebook rows of scale k as a map (N, Cvae, side, side): of the drawn tokens, or mixed.
torch::Tensor codes_of_scale(const ResidualQuantizerImpl& quantizer, int64_t k, const torch::Tensor& tokens,
                             const torch::Tensor& logits, bool smooth, at::Generator& generator) {
  if (!smooth) return quantizer.lookup(tokens, k);
  const auto weights = draw_mixture(logits, scale_ratio(k, quantizer.scales().count()), generator);  // (N, l, V)
  const auto codebook = quantizer.codebook();                                                        // (V, Cvae)
  const auto rows = weights.matmul(codebook.unsqueeze(0));                                           // (N, l, Cvae)
  const auto& map = quantizer.scales().map(k);
  return rows.transpose(1, 2).reshape({rows.size(0), -1, map.height, map.width});
}

}  // namespace

torch::Tensor decode_to_unit_range(Tokenizer tokenizer, const torch::Tensor& f_hat, c10::ScalarType dtype,
                                   int64_t at_once) {
  const c10::InferenceMode inference;
  const EvaluationGuard evaluation(*tokenizer);
  const AutocastGuard precision(f_hat.device().type(), dtype);
  std::vector<torch::Tensor> parts;
  if (at_once <= 0) at_once = tokenizer->options().pictures_at_once(f_hat.device());
  for (const auto& part : f_hat.split(at_once)) {
    parts.push_back(tokenizer->decode_features(part).to(at::kFloat).add(1).mul_(0.5));  // (n, C, H, W)
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

Samples sample_pictures(Transformer transformer, Tokenizer tokenizer, const torch::Tensor& labels,
                        const SampleOptions& options, at::Generator& generator, const OnScale& on_scale,
                        StepGraphs* graphs) {
  const c10::InferenceMode inference;
  const EvaluationGuard evaluation(*transformer);
  auto quantizer = tokenizer->quantizer();
  check_fit(transformer->options(), quantizer->options());
  const auto& scales = quantizer->scales();
  const auto classes = class_of_labels(labels, *transformer);  // (N)
  const int64_t n = classes.size(0);
  const auto device = classes.device();
  // Quantizer and filters are float32 whatever the caller is in; as the outermost guard it also keeps the casts of the
  // weights from scale to scale.
  const AutocastGuard full_precision(device.type(), c10::kFloat);
  // Without guidance (1+0)*c - 0*u is c to the bit, so the unconditional half is left out; so it is where it would be
  // equal to the other half, in a model without classes.
  const bool guided = options.cfg > 0 && transformer->options().classes > 0;

  KvCache cache;
  {
    const AutocastGuard precision(device.type(), options.dtype);
    const auto conditions =
        guided ? at::cat({classes, at::full_like(classes, transformer->label_free_class())}) : classes;
    if (graphs != nullptr) {
      graphs->begin(conditions);
    } else {
      cache = transformer->begin_sampling(conditions);
    }
  }
  auto f_hat = at::zeros({n, quantizer->options().code_width, scales.last().height, scales.last().width},
                         at::TensorOptions().dtype(at::kFloat).device(device));
  auto finite = at::ones({}, at::TensorOptions().dtype(at::kBool).device(device));
  torch::Tensor inputs;  // of scale k, (N or 2N, l, Cvae)
  std::vector<torch::Tensor> tokens;
  for (int64_t k = 0; k < scales.count(); ++k) {
    torch::Tensor logits;  // (N, l, V)
    {
      const AutocastGuard precision(device.type(), options.dtype);
      logits = graphs != nullptr ? graphs->step(k, inputs) : transformer->step(k, inputs, cache);
    }
    if (guided) logits = guide(logits, guidance_strength(options.cfg, k, scales.count()));
    finite.logical_and_(logits.isfinite().all());
    logits = filter_logits(logits, options.top_k, options.top_p);
    tokens.push_back(draw_tokens(logits, generator));
    const auto codes = codes_of_scale(*quantizer, k, tokens.back(), logits, options.smooth, generator);
    const auto next = quantizer->next_input(k, f_hat, codes);  // (N, Cvae, side, side) of scale k + 1
    if (on_scale) on_scale(k, f_hat);
    if (scales.is_last(k)) break;
    inputs = next.flatten(2).transpose(1, 2);  // (N, l, Cvae)
    if (guided) inputs = inputs.repeat({2, 1, 1});
  }
  cache = {};  // the decoder takes its place
  if (!finite.item<bool>()) {
    throw failure({.where = "sampling", .what = "the transformer's logits are not finite: its weights are damaged"});
  }
  return {at::cat(tokens, 1), f_hat, decode_to_unit_range(tokenizer, f_hat, options.dtype)};
}

}  // namespace nextscale
