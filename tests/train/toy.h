#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "nextscale/base/random.h"
#include "nextscale/io/weights.h"
#include "nextscale/train/ema.h"
#include "nextscale/train/loop.h"
#include "nextscale/train/optimizer.h"

namespace nextscale::testing {

struct Line : torch::nn::Module {
  Line() {
    auto generator = make_generator(7);
    weight = register_parameter("weight", torch::randn({5, 3}, generator));
    bias = register_parameter("bias", torch::zeros({3}));
  }
  torch::Tensor weight, bias;
};

/// A linear model with noise on its inputs. Data come from the step index; the noise from a generator that goes on, so
/// whoever forgets its state takes another way.
class Toy : public Trainee {
 public:
  StepReport step(int64_t step, bool report) override {
    if (before_step) before_step(step);
    auto data = make_generator(derived_seed(11, static_cast<uint64_t>(step)));
    const auto x = torch::randn({8, 5}, data);
    const auto target = x.slice(1, 0, 3) * 2 + 1;
    const auto noisy = x + 0.1 * torch::randn({8, 5}, noise);
    auto loss = (noisy.matmul(line.weight) + line.bias - target).square().mean();
    if (step >= broken_from) loss = loss * std::numeric_limits<double>::quiet_NaN();
    optimizer.zero_grad();
    loss.backward();
    const auto norm = optimizer.clip_gradients(1.0);
    optimizer.step(0.05, 0.01);
    ema.update(line, step);
    steps.push_back(step);
    if (!report) return {};
    StepReport numbers{
        .loss = loss.item<double>(), .lr = 0.05, .grad_norm = norm.item<double>(), .more = {{"extra", 4}}};
    if (step >= broken_from) numbers.more.insert({{"loss_1x1", 2}, {"loss_2x2", numbers.loss}});
    return numbers;
  }
  std::map<std::string, double> validate(int64_t step) override {
    validated.push_back(step);
    return {{"loss", 0.5}};
  }
  void save(const CheckpointWriter& checkpoint) override {
    if (before_save) before_save();
    auto& files = checkpoint.operations();
    write_weights(checkpoint.file("model.safetensors"), {state_dict(line), {}}, files);
    write_weights(checkpoint.file("ema.safetensors"), {ema.weights(), {}}, files);
    write_weights(checkpoint.file("optimizer.safetensors"), {optimizer.state(), {}}, files);
    write_weights(checkpoint.file("generators.safetensors"), {{{"noise", generator_state(noise)}}, {}}, files);
  }
  void load(const std::filesystem::path& checkpoint) override {
    const auto read = [&](const char* name) { return read_weights(checkpoint / name).tensors; };
    load_state_dict(line, read("model.safetensors"), "model.safetensors");
    ema.load(read("ema.safetensors"), "ema.safetensors");
    optimizer.load_state(read("optimizer.safetensors"), "optimizer.safetensors");
    if (!forgets_generator) set_generator_state(noise, find_tensor(read("generators.safetensors"), "noise"));
  }
  void save_snapshot(const std::filesystem::path& path) override {
    write_weights(path, {ema.weights(), {}});
    ++snapshots;
  }
  uint64_t checkpoint_bytes() const override { return bytes; }

  Line line;
  AdamW optimizer{named_parameters(line), {}, transformer_parameter_decays};
  Ema ema{line, 0.9};
  at::Generator noise = make_generator(5);

  std::function<void(int64_t)> before_step;
  std::function<void()> before_save;
  int64_t broken_from = std::numeric_limits<int64_t>::max();
  bool forgets_generator = false;
  uint64_t bytes = 0;
  std::vector<int64_t> steps, validated;
  int64_t snapshots = 0;
};

}  // namespace nextscale::testing
