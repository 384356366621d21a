// What an optimizer's step costs in bfloat16 training, which is passes over memory: gradients that autocast turns into
// float32 and weights that it rounds, against rounded copies that have their own gradients (train/rounded_adamw.h).
// Four blocks of the published d16.
#include "nextscale/train/optimizer.h"

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "nextscale/base/random.h"

namespace nextscale {
namespace {

struct Matrices {
  NamedTensors parameters, copies;
  std::vector<at::Tensor> gradients;  // bfloat16, as products hand them over
};

Matrices matrices() {
  auto generator = make_generator(0);
  Matrices out;
  for (int64_t block = 0; block < 4; ++block) {
    for (const auto& [rows, columns] :
         {std::pair{3072, 1024}, {1024, 1024}, {4096, 1024}, {1024, 4096}, {6144, 1024}}) {
      const auto name = std::to_string(out.parameters.size()) + ".weight";
      out.parameters.emplace_back(name, at::randn({rows, columns}, generator).set_requires_grad(true));
      const auto& parameter = out.parameters.back().second;
      out.copies.emplace_back(name, parameter.detach().to(at::kBFloat16).set_requires_grad(true));
      out.gradients.push_back(at::randn({rows, columns}, generator).to(at::kBFloat16));
    }
  }
  return out;
}

void step_by_autocast(benchmark::State& state) {
  const auto m = matrices();
  AdamW optimizer(m.parameters, {}, transformer_parameter_decays);
  std::vector<at::Tensor> casts(m.parameters.size());
  for (auto _ : state) {
    for (size_t i = 0; i < casts.size(); ++i) {
      casts[i] = m.parameters[i].second.detach().to(at::kBFloat16);
      auto parameter = m.parameters[i].second;
      parameter.mutable_grad() = m.gradients[i].to(at::kFloat);
    }
    optimizer.clip_gradients(1);
    optimizer.step(1e-4, 0.05);
    optimizer.zero_grad();
  }
}

void step_by_rounded_copies(benchmark::State& state) {
  const auto m = matrices();
  AdamW optimizer(m.parameters, {}, transformer_parameter_decays);
  optimizer.use_rounded(m.copies);
  for (auto _ : state) {
    for (size_t i = 0; i < m.copies.size(); ++i) {
      auto copy = m.copies[i].second;
      copy.mutable_grad() = m.gradients[i];
    }
    optimizer.clip_gradients(1);
    optimizer.step(1e-4, 0.05);
    optimizer.zero_grad();
  }
}

}  // namespace
}  // namespace nextscale

BENCHMARK(nextscale::step_by_autocast)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(nextscale::step_by_rounded_copies)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_MAIN();
