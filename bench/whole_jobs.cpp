// Whole jobs at the published d16's size, for bench/against_reference.py: says "ready", does the job once for every
// line on stdin and answers with "seconds check", at the end of stdin with the peak of memory in bytes. A line
// "trace FILE" also writes what its job did (base/trace.h).
//   bench_whole_jobs train|train-checkpointed|load|sample|sample-graphs|encode|decode|tokenizer|tokenizer-against
//   FOLDER float32|bfloat16 BATCH THREADS [DEVICE]
// FOLDER holds var.pth, vae.pth (state dicts of the reference), inputs.pth (tokens, labels, pictures) and LPIPS' files.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>

#include <ATen/ATen.h>
#include <sys/resource.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/trace.h"
#include "nextscale/io/weights.h"
#include "nextscale/sample/sampler.h"
#include "nextscale/train/optimizer.h"
#include "nextscale/train/pictures.h"
#include "nextscale/train/tokenizer_trainer.h"
#include "nextscale/train/transformer_trainer.h"

namespace nextscale {
namespace {

/// Does the job once. @returns something that shows that the right thing was done
using Job = std::function<double()>;

struct Setting {
  std::filesystem::path folder;
  c10::ScalarType dtype;
  int64_t batch;
  at::Device device;

  at::Tensor input(const char* name) const {
    return find_tensor(read_weights(folder / "inputs.pth").tensors, name).narrow(0, 0, batch).clone().to(device);
  }
  Tokenizer tokenizer() const {
    auto tokenizer = load_tokenizer(folder / "vae.pth");
    tokenizer->to(device);
    if (device.is_cuda()) to_channels_last(*tokenizer);  // as the verbs do
    return tokenizer;
  }
};

/// The same batch again and again.
class FixedTokens : public TokenSource {
 public:
  explicit FixedTokens(const Setting& setting) : quantizer_(setting.tokenizer()->quantizer()) {
    const at::NoGradGuard no_grad;
    batch_.labels = setting.input("labels");
    batch_.tokens = setting.input("tokens");
  }
  const QuantizerOptions& quantizer() const override { return quantizer_->options(); }
  int64_t pictures() const override { return batch_.labels.size(0); }
  int64_t held_out() const override { return 0; }
  TokenBatch batch(int64_t) override {
    const at::NoGradGuard no_grad;
    batch_.inputs = quantizer_->teacher_forcing_input(batch_.tokens);
    return batch_;
  }
  TokenBatch held_out_batch(const torch::Tensor&) override { return batch_; }
  TokenBatch training_batch(const torch::Tensor&) override { return batch_; }

 private:
  ResidualQuantizer quantizer_;
  TokenBatch batch_;
};

Job train(const Setting& setting, bool checkpoint_activations) {
  auto recipe = transformer_recipe("d16");
  recipe.training.checkpoint_activations = checkpoint_activations;
  recipe.training.ema = 0;  // the reference keeps none
  recipe.loop.batch = setting.batch;
  const int64_t steps = 1000;
  auto trainer =
      std::make_shared<TransformerTrainer>(recipe, std::make_unique<FixedTokens>(setting), steps, 0, setting.device,
                                           setting.dtype, std::map<std::string, std::string>{});
  const auto path = setting.folder / "var.pth";
  auto transformer = trainer->transformer();
  const auto file = read_weights(path);
  // Pages of the file beside the optimizer's state would be the peak of memory.
  load_transformer_weights(transformer, file.tensors, path, [&file](const at::Tensor& t) { file.forget(t); });
  // Numbers of each scale are computed with every tenth step, as in a run; the reference computes none here.
  return [trainer, step = int64_t{0}, loss = 0.0]() mutable {
    const bool report = step % 10 == 0;
    const auto numbers = trainer->step(step++, report);
    return report ? loss = numbers.loss : loss;
  };
}

Job load(const Setting& setting) {
  return [path = setting.folder / "var.pth"] {
    double values = 0;
    for (const auto& parameter : load_transformer(path)->parameters()) values += static_cast<double>(parameter.numel());
    return values;
  };
}

/// @param by_graphs on a GPU: recorded steps and the device's own draws
Job sample(const Setting& setting, bool by_graphs) {
  auto transformer = load_transformer(setting.folder / "var.pth");
  transformer->to(setting.device);
  if (setting.dtype != at::kFloat) transformer->keep_matrices_in(setting.dtype);
  SampleOptions options;
  options.cfg = 1.5;
  options.top_k = 900;
  options.top_p = 0.96;
  options.dtype = setting.dtype;
  std::shared_ptr<StepGraphs> graphs;
  if (by_graphs) graphs = std::make_shared<StepGraphs>(transformer, cuda_graph_recorder(setting.device));
  return [=, tokenizer = setting.tokenizer(), labels = setting.input("labels")] {
    auto generator = make_generator(0, by_graphs ? setting.device : at::Device(at::kCPU));
    return sample_pictures(transformer, tokenizer, labels, options, generator, {}, graphs.get())
        .tokens.sum()
        .item<double>();
  };
}

Job encode(const Setting& setting) {
  return [tokenizer = setting.tokenizer(), pictures = setting.input("pictures"), setting]() mutable {
    const at::NoGradGuard no_grad;
    const AutocastGuard autocast(setting.device.type(), setting.dtype);
    return tokenizer->encode(pictures).sum().item<double>();
  };
}

Job decode(const Setting& setting) {
  return [tokenizer = setting.tokenizer(), tokens = setting.input("tokens"), setting]() mutable {
    const at::NoGradGuard no_grad;
    const AutocastGuard autocast(setting.device.type(), setting.dtype);
    return tokenizer->decode(tokens).to(at::kFloat).mean().item<double>();
  };
}

Job train_tokenizer(const Setting& setting) {
  auto tokenizer = setting.tokenizer();
  tokenizer->train();
  for (auto& parameter : tokenizer->parameters()) parameter.set_requires_grad(true);
  to_channels_last(*tokenizer);
  auto optimizer = std::make_shared<AdamW>(named_parameters(*tokenizer), AdamWOptions{}, tokenizer_parameter_decays);
  const auto pictures = setting.input("pictures").contiguous(at::MemoryFormat::ChannelsLast);
  return [=]() mutable {
    optimizer->zero_grad();
    TokenizerOutput output;
    {
      const AutocastGuard autocast(setting.device.type(), setting.dtype);
      output = tokenizer->forward(pictures);
    }
    const auto loss =
        at::mse_loss(output.pictures, pictures) + 0.2 * at::l1_loss(output.pictures, pictures) + output.quantized.loss;
    loss.backward();
    optimizer->clip_gradients(10);
    optimizer->step(1e-5, 0.05);
    return loss.item<double>();
  };
}

/// The bench's pictures as a set, each of them again and again.
class FixedPictures : public Dataset {
 public:
  explicit FixedPictures(const Setting& setting)
      : pictures_(((setting.input("pictures").cpu() + 1) * 127.5).round().to(at::kByte).permute({0, 2, 3, 1})) {}
  int64_t size() const override { return pictures_.size(0); }
  int64_t label(int64_t) const override { return 0; }
  at::Tensor picture(int64_t i) const override { return pictures_[i].contiguous(); }
  std::string name(int64_t i) const override { return std::to_string(i); }

 private:
  at::Tensor pictures_;
};

/// The whole composite loss: LPIPS over VGG16 (files in the bench's folder), PatchGAN, adaptive weight.
Job train_tokenizer_against(const Setting& setting) {
  auto recipe = tokenizer_recipe("paper", 256, 3);
  recipe.model.dropout = 0;  // the reference's modules have none by default
  recipe.training.ema = 0;
  recipe.training.restart_every = 0;
  recipe.adversary = {.discriminator = "patchgan", .adversary_start = 0, .adversary_ramp = 0};
  recipe.loop.batch = setting.batch;
  recipe.weights = setting.folder;
  DataParts parts;
  parts.train = parts.val = std::make_shared<FixedPictures>(setting);
  parts.class_names = {"one"};
  parts.side = 256;
  parts.channels = 3;
  DataOptions data;
  data.workers = 1;
  auto trainer = std::make_shared<TokenizerTrainer>(recipe, parts, data, 1000, 0, setting.device, setting.dtype);
  return [trainer, step = int64_t{0}]() mutable { return trainer->step(step++, true).loss; };
}

Job job_of(const std::string& name, const Setting& setting) {
  if (name == "train") return train(setting, false);
  if (name == "train-checkpointed") return train(setting, true);
  if (name == "load") return load(setting);
  if (name == "sample") return sample(setting, false);
  if (name == "sample-graphs") return sample(setting, true);
  if (name == "encode") return encode(setting);
  if (name == "decode") return decode(setting);
  if (name == "tokenizer") return train_tokenizer(setting);
  if (name == "tokenizer-against") return train_tokenizer_against(setting);
  throw usage({.where = name, .what = "is no job"});
}

void serve(const Job& job) {
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const Trace trace(line.starts_with("trace ") ? line.substr(6) : "");
    const auto begin = std::chrono::steady_clock::now();
    const double check = job();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("%.4f %.6f\n", seconds.count(), check);
    std::fflush(stdout);
  }
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  std::printf("%ld\n", used.ru_maxrss * 1024);
}

}  // namespace
}  // namespace nextscale

int main(int count, char** words) {
  if (count != 6 && count != 7) {
    std::fputs("bench_whole_jobs JOB FOLDER DTYPE BATCH THREADS [DEVICE] (bench/against_reference.py calls it)\n",
               stderr);
    return 2;
  }
  try {
    nextscale::set_threads(std::atoll(words[5]));
    const auto device = nextscale::resolve_device(count == 7 ? words[6] : "cpu");
    const nextscale::Setting setting{words[2], nextscale::resolve_dtype(words[3], device), std::atoll(words[4]),
                                     device};
    nextscale::serve(nextscale::job_of(words[1], setting));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_whole_jobs: %s\n", error.what());
    return 1;
  }
  return 0;
}
