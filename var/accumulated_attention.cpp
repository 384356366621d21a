#include "nextscale/var/accumulated_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nextscale/var/bfloat16_operators.h"

namespace nextscale {
namespace {

// (B, H, L, c) -> (B * H, L, c)
at::Tensor joined(const at::Tensor& t) { return t.contiguous().flatten(0, 1); }

// Weights of attention (B * H, l, n) of one piece.
at::Tensor weights_of(const at::Tensor& queries, const at::Tensor& keys, int64_t begin, int64_t end,
                      const at::Tensor& mask, double scale) {
  const auto scores = at::bmm(queries.narrow(1, begin, end - begin), keys.narrow(1, 0, end).transpose(1, 2));
  return scaled_softmax(scores, scale, mask);
}

class AccumulatedAttention : public torch::autograd::Function<AccumulatedAttention> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const AttentionPlan& plan, double scale) {
    const auto queries = joined(q), keys = joined(k), values = joined(v);
    auto out = at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, v.options());  // (B, L, H, c)
    std::vector<int64_t> begins;
    at::Tensor kept;  // a short sequence's one piece is small, and computing it again cost a tenth (docs/benchmarks.md)
    for (const auto& piece : plan.pieces) {
      const int64_t length = piece.end - piece.begin;
      const auto weights = weights_of(queries, keys, piece.begin, piece.end, piece.mask, scale);
      const auto part = at::bmm(weights, values.narrow(1, 0, piece.end)).unflatten(0, {q.size(0), q.size(1)});
      out.narrow(1, piece.begin, length).copy_(part.transpose(1, 2));
      begins.push_back(piece.begin);
      if (plan.pieces.size() == 1) kept = weights;
    }
    context->save_for_backward({queries, keys, values, plan.pieces.front().mask, kept});
    context->saved_data["begins"] = begins;
    context->saved_data["scale"] = scale;
    context->saved_data["batch"] = q.size(0);
    return out.flatten(2);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto &queries = saved[0], &keys = saved[1], &values = saved[2];
    const auto begins = context->saved_data["begins"].toIntVector();
    const auto scale = context->saved_data["scale"].toDouble();
    const auto batch = context->saved_data["batch"].toInt();
    const int64_t length = queries.size(1), heads = queries.size(0) / batch;
    const auto gradient = joined(
        outputs[0].to(values.scalar_type()).reshape({batch, length, heads, -1}).transpose(1, 2));  // (B * H, L, c)
    auto of_queries = at::empty_like(queries), of_keys = at::empty_like(keys), of_values = at::empty_like(values);
    // The last piece sees every key, so it writes what the others add to.
    int64_t end = length;
    for (size_t i = begins.size(); i-- > 0; end = begins[i]) {
      const int64_t begin = begins[i];
      const bool writes = end == length;
      const auto weights = saved[4].defined()
                               ? saved[4]
                               : weights_of(queries, keys, begin, end, i == 0 ? saved[3] : at::Tensor(), scale);
      const auto part = gradient.narrow(1, begin, end - begin);
      auto value_part = of_values.narrow(1, 0, end), key_part = of_keys.narrow(1, 0, end);
      value_part.baddbmm_(weights.transpose(1, 2), part, writes ? 0 : 1);
      const auto of_weights = at::bmm(part, values.narrow(1, 0, end).transpose(1, 2));
      auto of_scores = at::_softmax_backward_data(of_weights, weights, -1, weights.scalar_type());
      if (scale != 1) of_scores.mul_(scale);
      of_queries.narrow(1, begin, end - begin).copy_(at::bmm(of_scores, keys.narrow(1, 0, end)));
      key_part.baddbmm_(of_scores.transpose(1, 2), queries.narrow(1, begin, end - begin), writes ? 0 : 1);
    }
    const auto split = [&](const at::Tensor& t) { return t.unflatten(0, {batch, heads}); };
    return {split(of_queries), split(of_keys), split(of_values), {}, {}};
  }
};

}  // namespace

torch::Tensor accumulated_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                    const AttentionPlan& plan, double scale) {
  return AccumulatedAttention::apply(q, k, v, plan, scale);
}

}  // namespace nextscale
