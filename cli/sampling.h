#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <nlohmann/json_fwd.hpp>

#include "nextscale/base/command_line.h"
#include "nextscale/base/runtime.h"
#include "nextscale/cli/loading.h"
#include "nextscale/sample/plan.h"
#include "nextscale/sample/sampler.h"

/// What the verbs that sample from a model have in common.
namespace nextscale::cli {

/// The models and what is asked of them.
struct SamplingRequest {
  ChoiceOptions choice;
  SampleOptions sampling;
  LoadingOptions loading;
  TransformerHints transformer_hints;
  TokenizerHints tokenizer_hints;
};

/// The groups "which pictures" and "sampling", and those of files without a
/// config.
void add_sampling(CommandLine& line, SamplingRequest& request);
/// After parsing and applying. @throws Error usage for choices that exclude
/// each other or are empty
void check_sampling(const CommandLine& line, SamplingRequest& request);

struct Models {
  Transformer transformer{nullptr};
  Tokenizer tokenizer{nullptr};
  c10::Device device;
  std::unique_ptr<StepGraphs> graphs{};  ///< with --graphs
};

/// Loads both and checks that they fit each other and that pictures can hold
/// what they make; sets request.sampling.dtype.
Models load_models(const std::string& model, const std::string& tokenizer, bool raw, const RuntimeOptions& runtime,
                   SamplingRequest& request);
/// One batch of the plan, as the options ask.
Samples sample_planned(const Models& models, const SampleBatch& batch, const SampleOptions& options,
                       const OnScale& on_scale = {});
/// What a record of an evaluation says of the sampling; guidance written out.
nlohmann::json sampling_json(const std::string& model, const std::string& tokenizer, const SampleOptions& options,
                             const ChoiceOptions& choice, int64_t seed);

}  // namespace nextscale::cli
