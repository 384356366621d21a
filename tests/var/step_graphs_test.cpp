// Batches by recorded steps against the transformer's own. LibTorch's tracer stands in for a GPU's graphs: what it
// replays are the operators on the memory of the recording, none of our code.
#include "nextscale/var/step_graphs.h"

#include <functional>
#include <memory>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;

TransformerOptions tiny_options(bool shared_aln) {
  TransformerOptions options;
  options.codes = 16;
  options.code_width = 4;
  options.sides = {1, 2, 3};
  options.classes = 5;
  options.depth = 2;
  options.width = 24;
  options.heads = 2;
  options.shared_aln = shared_aln;
  return options;
}

Transformer tiny_transformer(bool shared_aln) {
  Transformer transformer(tiny_options(shared_aln));
  transformer->initialise(make_generator(5));
  transformer->eval();
  for (auto& parameter : transformer->parameters()) parameter.set_requires_grad(false);  // constants of a trace
  return transformer;
}

Recorder tracing_recorder(int& recordings) {
  return [&recordings](const Work& work) -> Work {
    ++recordings;
    const auto traced = torch::jit::tracer::trace(
        {}, [&](torch::jit::Stack) { return torch::jit::Stack{work()}; }, [](const at::Tensor&) { return ""; },
        /*strict=*/true, /*force_outplace=*/false);
    // Interpreted as it is: an optimiser would take the memory of the recording for constants.
    const auto code = std::make_shared<torch::jit::Code>(traced.first->graph, "step");
    return [code] {
      torch::jit::Stack stack;
      torch::jit::InterpreterState(*code).run(stack);
      return stack.front().toTensor();
    };
  };
}

using StepOf = std::function<at::Tensor(int64_t k, const at::Tensor& inputs)>;

/// Logits of all scales; inputs are drawn from the seed.
std::vector<at::Tensor> batch(const TransformerImpl& transformer, int64_t pictures, uint64_t seed, const StepOf& step) {
  auto generator = make_generator(seed);
  std::vector<at::Tensor> logits;
  for (int64_t k = 0; k < transformer.scales().count(); ++k) {
    at::Tensor inputs;
    if (k > 0) inputs = at::randn({pictures, transformer.scales().area(k), 4}, generator);
    logits.push_back(step(k, inputs).clone());
  }
  return logits;
}

class RecordedSteps : public ::testing::TestWithParam<bool> {};

TEST_P(RecordedSteps, AreTheTransformersOwnBatchAfterBatch) {
  const at::NoGradGuard no_grad;
  auto transformer = tiny_transformer(GetParam());
  int recordings = 0;
  StepGraphs graphs(transformer, tracing_recorder(recordings));
  const std::vector<std::vector<int64_t>> batches = {{0, 1, 5}, {4, 2, 5}, {3, 3, 0}, {1, 5}, {2, 5}, {0, 1, 5}};
  std::vector<int> after;
  std::vector<at::Tensor> last;
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto labels = at::tensor(batches[i]);
    const int64_t pictures = labels.size(0);
    graphs.begin(labels);
    const auto got = batch(*transformer, pictures, i, [&](auto k, const auto& x) { return graphs.step(k, x); });
    auto cache = transformer->begin_sampling(labels);
    const auto expected =
        batch(*transformer, pictures, i, [&](auto k, const auto& x) { return transformer->step(k, x, cache); });
    for (size_t k = 0; k < expected.size(); ++k) {
      EXPECT_TRUE(all_close(got[k], expected[k], {.absolute = 1e-6})) << "batch " << i << ", scale " << k;
      if (!last.empty() && last[k].sizes() == got[k].sizes()) {
        EXPECT_FALSE(all_close(got[k], last[k], {.absolute = 1e-4})) << "batch " << i << ", scale " << k;
      }
    }
    last = got;
    after.push_back(recordings);
  }
  EXPECT_EQ(after, (std::vector<int>{3, 3, 3, 6, 6, 9})) << "each scale is recorded once for a size";
}
INSTANTIATE_TEST_SUITE_P(SharedAln, RecordedSteps, ::testing::Bool());

TEST(RecordedSteps, SeeWeightsThatChangeInPlace) {
  const at::NoGradGuard no_grad;
  auto transformer = tiny_transformer(false);
  int recordings = 0;
  StepGraphs graphs(transformer, tracing_recorder(recordings));
  const auto labels = at::tensor({1, 2});
  const auto first_scale = [&] {
    graphs.begin(labels);
    return graphs.step(0, {}).clone();
  };
  const auto before = first_scale();
  for (auto& parameter : transformer->parameters()) parameter.mul_(1.5);
  const auto after = first_scale();
  auto cache = transformer->begin_sampling(labels);
  EXPECT_TRUE(all_close(after, transformer->step(0, {}, cache), {.absolute = 1e-6}));
  EXPECT_FALSE(all_close(after, before, {.absolute = 1e-3}));
  EXPECT_EQ(recordings, 1);
}

TEST(BeginAgain, RefusesACacheThatItsBatchOrArithmeticDoesNotFit) {
  const at::NoGradGuard no_grad;
  auto transformer = tiny_transformer(false);
  KvCache cache;
  EXPECT_FALSE(transformer->begin_again(at::tensor({1, 2}), cache));
  cache = transformer->begin_sampling(at::tensor({1, 2}));
  EXPECT_FALSE(transformer->begin_again(at::tensor({1, 2, 3}), cache));
  {
    const AutocastGuard autocast(at::kCPU, at::kBFloat16);
    EXPECT_FALSE(transformer->begin_again(at::tensor({1, 2}), cache));
  }
  const auto memory = cache.start.data_ptr();
  EXPECT_TRUE(transformer->begin_again(at::tensor({3, 4}), cache));
  EXPECT_EQ(cache.start.data_ptr(), memory);
  EXPECT_TRUE(all_close(cache.start, transformer->begin_sampling(at::tensor({3, 4})).start));
  auto generator = make_generator(1);
  for (int64_t k = 0; k < 3; ++k) {
    transformer->step(k, k > 0 ? at::randn({2, transformer->scales().area(k), 4}, generator) : at::Tensor(), cache);
  }
  EXPECT_FALSE(transformer->begin_again(at::tensor({1, 2}), cache)) << "its keys and values are gone";
}

TEST(GraphRecorder, IsRefusedOnACpu) {
  EXPECT_FALSE(can_record_graphs(at::kCPU));
#ifndef NEXTSCALE_WITH_CUDA
  EXPECT_THROW(cuda_graph_recorder(at::kCPU), Error);
#endif
}

}  // namespace
}  // namespace nextscale
