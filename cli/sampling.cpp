#include "nextscale/cli/sampling.h"

#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/sample/fit.h"
#include "nextscale/train/pictures.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale::cli {

void add_sampling(CommandLine& line, SamplingRequest& request) {
  line.add("which pictures", bind_options(request.choice));
  line.add("sampling", bind_options(request.sampling));
  add_loading(line, request.loading, Loads::both);
}

void check_sampling(const CommandLine& line, SamplingRequest& request) {
  line.exclusive({"labels", "random_labels", "classes"});
  line.exclusive({"labels", "random_labels", "per_class"});
  const auto refuse_empty = [&](const char* name, bool empty) {
    if (line.given(name) && empty) throw usage({"--" + std::string(name), "is empty", "numbers with commas", "''"});
  };
  refuse_empty("labels", request.choice.labels.empty());
  refuse_empty("classes", request.choice.classes.empty());
  if (line.given("per_class") && !line.given("classes")) request.choice.classes = "all";
  request.transformer_hints = transformer_hints(line, request.loading);
  request.tokenizer_hints = tokenizer_hints(line, request.loading);
}

Models load_models(const std::string& model, const std::string& tokenizer, bool raw, const RuntimeOptions& runtime,
                   SamplingRequest& request) {
  Models models{.device = resolve_device(runtime.device)};
  if (request.sampling.graphs && !can_record_graphs(models.device)) {
    throw usage({"--graphs", "cannot be recorded here", "a GPU (--device cuda) and a build with CUDA graphs",
                 "--device " + models.device.str()});
  }
  models.transformer = load_transformer(model, raw, request.transformer_hints);
  auto hints = request.tokenizer_hints;
  hints.fallback_sides = models.transformer->options().sides;
  models.tokenizer = load_tokenizer(tokenizer, raw, hints);
  check_fit(models.transformer->options(), models.tokenizer->options().quantizer);
  const int64_t channels = models.tokenizer->options().channels;
  if (channels != 1 && channels != 3) {
    throw failure(
        {tokenizer, "makes pictures that PNG files cannot hold", "1 or 3 channels", std::to_string(channels)});
  }
  models.transformer->to(models.device);
  models.tokenizer->to(models.device);
  // The order that a GPU's convolutions multiply in; a CPU's reorder weights anyway, and phi's decide its tokens' last
  // bits.
  if (models.device.is_cuda()) to_channels_last(*models.tokenizer);
  // On the processor float32 unless asked otherwise: the reference's tokens,
  // and small batches gain little from less.
  request.sampling.dtype =
      runtime.dtype == "auto" && models.device.is_cpu() ? c10::kFloat : resolve_dtype(runtime.dtype, models.device);
  if (request.sampling.dtype != c10::kFloat) models.transformer->keep_matrices_in(request.sampling.dtype);
  if (request.sampling.graphs) {
    models.graphs = std::make_unique<StepGraphs>(models.transformer, cuda_graph_recorder(models.device));
  }
  return models;
}

Samples sample_planned(const Models& models, const SampleBatch& batch, const SampleOptions& options,
                       const OnScale& on_scale) {
  auto generator = batch.generator(options.draws == "device" ? models.device : c10::Device(c10::kCPU));
  return sample_pictures(models.transformer, models.tokenizer, at::tensor(batch.labels), options, generator, on_scale,
                         models.graphs.get());
}

nlohmann::json sampling_json(const std::string& model, const std::string& tokenizer, const SampleOptions& options,
                             const ChoiceOptions& choice, int64_t seed) {
  return {{"model", model},
          {"tokenizer", tokenizer},
          {"guidance", options.cfg > 0
                           ? fmt::format("t = {:g}*k/(K-1), logits (1+t)*conditional - t*unconditional", options.cfg)
                           : std::string("none")},
          {"cfg", options.cfg},
          {"top_k", options.top_k},
          {"top_p", options.top_p},
          {"smooth", options.smooth},
          {"draws", options.draws},
          {"arithmetic", dtype_text(options.dtype)},
          {"seed", seed},
          {"choice", options_to_json(choice)},
          {"order", "shuffled as by --npz: the number of pictures alone decides it"}};
}

}  // namespace nextscale::cli
