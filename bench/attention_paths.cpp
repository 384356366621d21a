// Which way of computing block-causal attention is fastest, forward and backward? Dense mask against the other paths on
// the published 256 px pyramid (L = 680, 16 heads of 64), the fast preset's (L = 104, 3 heads) and pyramids between
// them; and whole training steps of the fast preset.
#include <array>

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/var/transformer.h"

namespace nextscale {
namespace {

struct Setting {
  const char* name;
  std::vector<int64_t> sides;
  int64_t batch, heads;
};
const std::array kSettings = {
    Setting{"fast_L104", {1, 2, 3, 4, 5, 7}, 8, 3},
    Setting{"fast_L130", {1, 2, 3, 4, 6, 8}, 8, 3},
    Setting{"L255", {1, 2, 3, 4, 5, 6, 8, 10}, 4, 8},
    Setting{"L424", {1, 2, 3, 4, 5, 6, 8, 10, 13}, 4, 8},
    Setting{"d16_L680", {1, 2, 3, 4, 5, 6, 8, 10, 13, 16}, 2, 16},
};
const std::array kPaths = {std::pair{"dense", AttentionPath::dense}, std::pair{"prefix", AttentionPath::prefix},
                           std::pair{"grouped", AttentionPath::grouped},
                           std::pair{"written_out", AttentionPath::written_out},
                           std::pair{"accumulated", AttentionPath::accumulated}};

// Forward and backward from the joined projection on, as a block runs it.
void attention(benchmark::State& state, const Setting& setting, AttentionPath path, at::ScalarType dtype) {
  auto generator = make_generator(0);
  const Scales scales(setting.sides);
  const auto plan = plan_attention(scales, scales.count(), path, at::TensorOptions().dtype(dtype));
  const auto qkv = at::randn({setting.batch, scales.length(), 3, setting.heads, 64}, generator, at::kFloat)
                       .to(dtype)
                       .requires_grad_();
  const auto gradient = at::ones({setting.batch, scales.length(), setting.heads * 64}, dtype);
  for (auto _ : state) {
    auto parts = qkv.permute({2, 0, 3, 1, 4});  // (3, B, H, L, c)
    if (plan.by_products()) parts = parts.contiguous();
    const auto q_k_v = parts.unbind(0);
    block_causal_attention(q_k_v[0], q_k_v[1], q_k_v[2], plan, 0.125).backward(gradient);
    qkv.mutable_grad().reset();
  }
}

void fast_step(benchmark::State& state, AttentionPath path, at::ScalarType dtype) {
  auto generator = make_generator(0);
  Transformer transformer(transformer_preset("fast"));
  transformer->initialise(generator);
  transformer->set_attention_path(path);
  const int64_t batch = 8, length = transformer->scales().length();
  const auto labels = at::randint(10, {batch}, generator, at::kLong);
  const auto inputs = at::randn({batch, length - 1, 8}, generator, at::kFloat);
  const auto tokens = at::randint(256, {batch * length}, generator, at::kLong);
  for (auto _ : state) {
    transformer->zero_grad();
    at::Tensor loss;
    {
      const AutocastGuard guard(at::kCPU, dtype);
      loss = at::cross_entropy_loss(transformer->forward(labels, inputs).flatten(0, 1), tokens);
    }
    loss.backward();
  }
  state.counters["pictures/s"] =
      benchmark::Counter(static_cast<double>(batch * state.iterations()), benchmark::Counter::kIsRate);
}

void register_all() {
  for (const auto& [type_name, dtype] : {std::pair{"float32", at::kFloat}, std::pair{"bfloat16", at::kBFloat16}}) {
    for (const auto& setting : kSettings) {
      for (const auto& [path_name, path] : kPaths) {
        const auto name = std::string(setting.name) + "/" + type_name + "/" + path_name;
        benchmark::RegisterBenchmark(name.c_str(), attention, setting, path, dtype)
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
    }
    for (const auto& [path_name, path] : kPaths) {
      const auto name = std::string("fast_step/") + type_name + "/" + path_name;
      benchmark::RegisterBenchmark(name.c_str(), fast_step, path, dtype)->Unit(benchmark::kMillisecond)->UseRealTime();
    }
  }
}

}  // namespace
}  // namespace nextscale

int main(int argc, char** argv) {
  nextscale::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
