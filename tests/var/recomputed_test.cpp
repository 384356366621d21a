// What is computed again in the backward pass equals what autograd keeps.
#include "nextscale/var/recomputed.h"

#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "nextscale/base/checkpointed.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/var/transformer.h"

namespace nextscale::testing {
namespace {

using Tensors = std::vector<torch::Tensor>;

/// Output, then the gradients of the inputs, for a fixed gradient of the output.
Tensors run(const Forward& forward, const Tensors& inputs) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.clone().requires_grad_());
  const auto output = forward(leaves);
  const auto weights = at::linspace(-1, 1, output.numel(), output.options().requires_grad(false)).view_as(output);
  Tensors results{output.detach()};
  for (auto& gradient : torch::autograd::grad({output}, leaves, {weights})) results.push_back(gradient);
  return results;
}

void expect_twins(const Forward& lean, const Forward& plain, const Tensors& inputs, double tolerance) {
  const auto a = run(lean, inputs), b = run(plain, inputs);
  for (size_t i = 0; i < b.size(); ++i) {
    EXPECT_TRUE(all_close(a[i], b[i], {.relative = tolerance, .absolute = tolerance})) << i;
  }
}

Tensors drawn(const std::vector<std::vector<int64_t>>& shapes, at::ScalarType dtype) {
  auto generator = make_generator(5);
  Tensors tensors;
  for (const auto& shape : shapes) tensors.push_back(at::randn(shape, generator, at::kDouble).to(dtype));
  return tensors;
}

TEST(Recomputed, NormIsItsPlainTwin) {
  const Forward lean = [](const Tensors& t) { return recomputed_norm(t[0], t[1], t[2], 1e-6); };
  const Forward plain = [](const Tensors& t) {
    return at::addcmul(t[2], at::layer_norm(t[0], {t[0].size(-1)}, {}, {}, 1e-6), t[1]);
  };
  const std::vector<std::vector<int64_t>> shapes = {{2, 5, 12}, {2, 1, 12}, {2, 1, 12}};
  expect_twins(lean, plain, drawn(shapes, at::kDouble), 1e-12);
  expect_twins(lean, plain, drawn(shapes, at::kFloat), 1e-5);
  expect_twins(lean, plain, drawn(shapes, at::kBFloat16), 0.05);
}

TEST(Recomputed, GeluLinearIsItsPlainTwin) {
  const Forward lean = [](const Tensors& t) { return recomputed_gelu_linear(t[0], t[1], t[2]); };
  const Forward plain = [](const Tensors& t) { return at::linear(at::gelu(t[0], "tanh"), t[1], t[2]); };
  const std::vector<std::vector<int64_t>> shapes = {{2, 5, 12}, {7, 12}, {7}};
  expect_twins(lean, plain, drawn(shapes, at::kDouble), 1e-12);
  expect_twins(lean, plain, drawn(shapes, at::kFloat), 1e-5);
}

/// Loss and gradients of a small transformer in training, with draws for skipped blocks and dropout.
Tensors trained(bool checkpointing, at::ScalarType dtype, bool shared_aln) {
  Transformer transformer(TransformerOptions{.codes = 11,
                                             .code_width = 4,
                                             .sides = {1, 2, 3},
                                             .classes = 5,
                                             .depth = 3,
                                             .width = 32,
                                             .heads = 2,
                                             .shared_aln = shared_aln,
                                             .drop_rate = 0.1,
                                             .drop_path = 0.5});
  transformer->initialise(make_generator(1));
  transformer->train();
  transformer->set_checkpointing(checkpointing);
  auto generator = make_generator(2);
  const auto inputs = at::randn({3, 13, 4}, generator, at::kFloat);
  torch::Tensor loss;
  {
    const AutocastGuard autocast(at::kCPU, dtype);
    loss = transformer->forward(at::tensor({0, 4, 5}), inputs, make_generator(3)).square().mean();
  }
  loss.backward();
  Tensors results{loss.detach()};
  for (const auto& [name, parameter] : named_parameters(*transformer)) {
    EXPECT_TRUE(parameter.grad().defined()) << name;
    results.push_back(parameter.grad());
  }
  return results;
}

TEST(Recomputed, ACheckpointedTransformerTrainsToTheSameBits) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const bool shared_aln : {false, true}) {
      const auto kept = trained(false, dtype, shared_aln), again = trained(true, dtype, shared_aln);
      ASSERT_EQ(kept.size(), again.size());
      for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(at::equal(kept[i], again[i])) << i;
    }
  }
}

}  // namespace
}  // namespace nextscale::testing
