#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/command_line.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/npz_samples.h"
#include "nextscale/cli/sampling.h"
#include "nextscale/cli/scoring.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/picture.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

struct EvaluateOptions {
  std::string generated;
  std::string reference;
  std::string reconstruct;
  std::string tokenizer;
  bool raw = false;

  static constexpr auto table() {
    using O = EvaluateOptions;
    return std::tuple{
        option("generated", &O::generated,
               "the pictures: a folder, a tar file, an npz (arr_0 uint8 (N, H, "
               "W, 3)), or a run of train to sample from"),
        option("reference", &O::reference,
               "real pictures in the same forms, or an npz of statistics (mu, "
               "sigma)"),
        option("reconstruct", &O::reconstruct,
               "instead of --generated a tokenizer: the reference's own "
               "pictures through it (rFID)"),
        option("tokenizer", &O::tokenizer, "with a run as --generated: the tokenizer it was trained with"),
        option("raw", &O::raw, "of runs the weights as trained, not their running average"),
    };
  }
};

struct EvaluateRequest {
  EvaluateOptions files;
  ScoringOptions scoring;
  MetricOptions metrics;
  SamplingRequest sampling;
  RuntimeOptions runtime;
};

std::vector<BoundOption> evaluate_runtime_options(RuntimeOptions& options) {
  auto bound = bind_options(options);
  for (auto& o : bound) {
    if (o.name == "dtype")
      o.help =
          "arithmetic of sampling and of the tokenizer; features are "
          "always float32";
    if (o.name == "seed") o.help = "of sampling, of intervals and of the choice of subsets";
  }
  return bound;
}

bool is_run(const fs::path& path) {
  return fs::is_directory(path / "checkpoints") || path.extension() == ".safetensors";
}

bool read_request(const Words& words, EvaluateRequest& request) {
  CommandLine line("nextscale evaluate --generated PATH|RUN --reference PATH [OPTIONS]",
                   "FID and its kin, as the field's tools compute them, with intervals and "
                   "with everything written down "
                   "that is needed to make the numbers again.");
  line.add("Pictures", bind_options(request.files));
  line.add("Scoring", bind_options(request.scoring));
  line.add("Metrics", bind_options(request.metrics));
  add_sampling(line, request.sampling);
  line.add("Machine", evaluate_runtime_options(request.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  line.apply();
  line.exclusive({"generated", "reconstruct"});
  if (!line.given("reconstruct")) line.require("generated");
  if (line.given("reconstruct")) line.require("reference");
  check_sampling(line, request.sampling);
  if (line.given("generated") && is_run(request.files.generated)) {
    line.require("tokenizer");
  } else if (line.given("tokenizer")) {
    throw usage({.where = "--tokenizer", .what = "goes with a run as --generated"});
  }
  return true;
}

ExitCode score_files(EvaluateRequest& request, Scoring& scoring, const StopOnSignal& stop) {
  const auto pictures = open_picture_set(request.files.generated, request.scoring.crop());
  if (!scoring.read_reference(stop) || !scoring.read_generated(*pictures, stop)) return stop.exit_code();
  scoring.finish({.path = request.files.generated,
                  .picture = [&](int64_t i) { return pictures->picture(i); },
                  .sampling = nullptr,
                  .comparison = {}},
                 stop);
  return ExitCode::done;
}

ExitCode score_run(EvaluateRequest& request, Scoring& scoring, const StopOnSignal& stop) {
  auto models = load_models(request.files.generated, request.files.tokenizer, request.files.raw, request.runtime,
                            request.sampling);
  const auto plan = plan_batches(request.sampling.choice, models.transformer->options().classes,
                                 static_cast<uint64_t>(request.runtime.seed));
  int64_t planned = 0;
  for (const auto& batch : plan) planned += batch.count();
  if (!scoring.read_reference(stop)) return stop.exit_code();
  scoring.begin_generated(planned, models.tokenizer->options().picture_side());
  int64_t done = 0;
  {
    Progress progress("sampling", planned, "pictures", request.runtime.quiet);
    for (const auto& batch : plan) {
      if (stop.requested()) return stop.exit_code();
      const auto samples = sample_planned(models, batch, request.sampling.sampling);
      const auto pictures = bytes_from_unit_range(samples.pictures);  // (N, H, W, C)
      scoring.add_generated(pictures, batch.labels);
      progress.update(done += batch.count());
    }
  }
  scoring.end_generated(npz_order(planned));
  scoring.finish({.path = request.files.generated,
                  .sampling = sampling_json(request.files.generated, request.files.tokenizer, request.sampling.sampling,
                                            request.sampling.choice, request.runtime.seed),
                  .comparison = {}},
                 stop);
  return ExitCode::done;
}

/// (side, side, 3) uint8 of several pictures as the tokenizer eats them.
at::Tensor network_pictures(const at::Tensor& pictures, int64_t channels, c10::Device device) {
  std::vector<at::Tensor> all;
  for (const auto& picture : pictures.unbind()) all.push_back(with_channels(picture, channels).permute({2, 0, 1}));
  return to_network_range(at::stack(all)).to(device);
}

ExitCode score_reconstructions(EvaluateRequest& request, Scoring& scoring, const StopOnSignal& stop) {
  auto hints = request.sampling.tokenizer_hints;
  auto tokenizer = load_tokenizer(request.files.reconstruct, request.files.raw, hints);
  const auto device = resolve_device(request.runtime.device);
  tokenizer->to(device);
  const auto dtype = request.runtime.dtype == "auto" ? c10::kFloat : resolve_dtype(request.runtime.dtype, device);
  const auto real = scoring.reference_pictures();
  if (!real) {
    throw failure({request.files.reference, "holds statistics only, and --reconstruct needs the pictures", {}, {}});
  }
  const auto first = real->picture(0);
  const int64_t side = tokenizer->options().picture_side();
  if (first.size(0) != side || first.size(1) != side) {
    throw failure({real->name(0), "has another size than the tokenizer's pictures (--side N crops)",
                   fmt::format("{} x {}", side, side), fmt::format("{} x {}", first.size(1), first.size(0))});
  }
  const auto again = [&](const at::Tensor& pictures) {  // (B, H, W, 3) uint8
    const at::NoGradGuard no_grad;
    const auto input = network_pictures(pictures, tokenizer->options().channels, device);
    const AutocastGuard autocast(device.type(), dtype);
    return bytes_from_network_range(tokenizer->decode(tokenizer->encode(input)).to(at::kFloat));
  };
  if (!scoring.read_reference(stop)) return stop.exit_code();
  scoring.begin_generated(real->size(), side);
  {
    Progress progress("reconstruct", real->size(), "pictures", request.runtime.quiet);
    for (int64_t begin = 0; begin < real->size(); begin += request.sampling.choice.batch) {
      if (stop.requested()) return stop.exit_code();
      const int64_t end = std::min(real->size(), begin + request.sampling.choice.batch);
      std::vector<at::Tensor> pictures;
      std::vector<int64_t> labels;
      for (int64_t i = begin; i < end; ++i) {
        pictures.push_back(real->picture(i));
        labels.push_back(real->label(i));
      }
      scoring.add_generated(again(at::stack(pictures)), labels);
      progress.update(end);
    }
  }
  scoring.end_generated({});
  scoring.finish({.path = request.files.reconstruct,
                  .sampling = nullptr,
                  .comparison = fmt::format("reconstructions by {} of the very crops of "
                                            "{} pixels that stand on the other "
                                            "side (rFID)",
                                            request.files.reconstruct, side)},
                 stop);
  return ExitCode::done;
}

}  // namespace

ExitCode evaluate(const Words& words) {
  EvaluateRequest request;
  if (!read_request(words, request)) return ExitCode::done;
  const StopOnSignal stop;
  set_threads(request.runtime.threads);
  const Trace trace(request.runtime.trace);
  const auto device = resolve_device(request.runtime.device);
  Scoring scoring(request.scoring, request.metrics, request.files.reference, request.runtime, device);
  const auto score = !request.files.reconstruct.empty() ? score_reconstructions
                     : is_run(request.files.generated)  ? score_run
                                                        : score_files;
  const auto code = score(request, scoring, stop);
  if (stop.requested()) note(request.runtime, "stopped; nothing was written");
  return code;
}

}  // namespace nextscale::cli
