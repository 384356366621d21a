#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/command_line.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/npz_samples.h"
#include "nextscale/cli/sampling.h"
#include "nextscale/cli/scoring.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/sample/gallery.h"
#include "nextscale/sample/plan.h"
#include "nextscale/sample/sampler.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGridOfClass = 16;    // pictures of a class in the grid
constexpr int64_t kGridPictures = 960;  // in all: what can still be looked at, and memory
constexpr int64_t kStripPictures = 8;   // rows of the strip

struct SampleFiles {
  std::string model, tokenizer, out, grid, scales_strip, tokens_out, npz, evaluate;
  bool keep_order = false;
  bool raw = false;

  static constexpr auto table() {
    using O = SampleFiles;
    return std::tuple{
        option("model", &O::model, "transformer: a file, or the folder of its run"),
        option("tokenizer", &O::tokenizer,
               "the tokenizer that it was trained with: a file, or the folder "
               "of its run"),
        option("raw", &O::raw, "of runs the weights as trained, not their running average"),
        option("out", &O::out,
               "folder for the pictures; names that are there already are "
               "replaced. With --evaluate it may be left out"),
        option("grid", &O::grid, "PNG file: one row a class, its name on the left"),
        option("scales_strip", &O::scales_strip,
               "PNG file: some pictures after each scale, of as many classes "
               "as there are, up to 8"),
        option("tokens_out", &O::tokens_out,
               "safetensors file: tokens (N, L) and labels (N), int64, -1 for "
               "no label"),
        option("npz", &O::npz,
               "file for ADM's evaluator: arr_0 uint8 (N, H, W, 3), arr_1 "
               "labels, in a fixed random order"),
        option("evaluate", &O::evaluate,
               "real pictures or statistics (as `evaluate --reference`): the "
               "pictures are also scored, while they are made"),
        option("keep_order", &O::keep_order,
               "the npz's pictures in the order of their names (sorted by "
               "class they ruin the Inception Score)"),
    };
  }
};

/// Everything that was typed.
struct SampleRequest {
  SampleFiles files;
  ScoringOptions scoring;
  MetricOptions metrics;
  SamplingRequest sampling;
  RuntimeOptions runtime;
};

bool read_request(const Words& words, SampleRequest& request) {
  CommandLine line(
      "nextscale sample --model FILE|RUN --tokenizer FILE|RUN --out DIR "
      "[OPTIONS]",
      "Makes pictures scale by scale. In float32 on the processor the same "
      "weights, options and seed give "
      "the same pictures, and the tokens of the Python reference.");
  line.add("files", bind_options(request.files));
  add_sampling(line, request.sampling);
  line.add("scoring, with --evaluate", bind_options(request.scoring));
  line.add("metrics, with --evaluate", bind_options(request.metrics));
  line.add("machine", bind_options(request.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  line.apply();
  for (const char* name : {"model", "tokenizer"}) line.require(name);
  if (!line.given("evaluate") || line.given("npz")) line.require("out");
  check_sampling(line, request.sampling);
  if (line.given("keep_order")) line.require("npz");
  for (const auto& options : {bind_options(request.scoring), bind_options(request.metrics)}) {
    for (const auto& option : options) {
      if (!line.given(option.name) || line.given("evaluate")) continue;
      throw usage({.where = "--" + option.flag(), .what = "goes with --evaluate (see --help)"});
    }
  }
  return true;
}

/// Metadata "class_names" of the transformer's file, a JSON list; empty where
/// there is none.
std::vector<std::string> read_class_names(const SampleFiles& files) {
  const auto path = resolve_weights_path(files.model, files.raw);
  const auto metadata = read_weights(path).metadata;
  const auto found = metadata.find("class_names");
  if (found == metadata.end()) return {};
  try {
    return parse_json(found->second, path.string() + ": class_names").get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw failure({path.string() + ": class_names", "cannot be read", "a JSON list of texts", {}});
  }
}

/// What is kept of the pictures made so far.
class Outputs {
 public:
  Outputs(const SampleFiles& files, std::vector<std::string> class_names, const Scales& scales)
      : files_(files), class_names_(std::move(class_names)) {
    for (const auto& map : scales.maps()) scale_names_.push_back(fmt::format("{}x{}", map.height, map.width));
  }

  /// @param bytes (N, H, W, C) uint8 of the samples
  void add_batch(const Samples& samples, const at::Tensor& bytes, const std::vector<int64_t>& labels) {
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto picture = bytes[static_cast<int64_t>(i)];
      if (!files_.out.empty()) {
        write_png(fs::path(files_.out) / picture_name(count(), labels[i]), picture, Sync::later);
      }
      labels_.push_back(labels[i]);
      keep_for_grid(picture, labels[i]);
    }
    if (!files_.tokens_out.empty()) tokens_.push_back(samples.tokens.cpu());
  }
  /// @param after_scale K tensors (n, C, H, W) in [0, 1], of pictures with
  /// these labels
  void add_to_strip(const std::vector<at::Tensor>& after_scale, const std::vector<int64_t>& labels) {
    strip_.resize(after_scale.size());
    for (size_t k = 0; k < strip_.size(); ++k) {
      strip_[k] = strip_[k].defined() ? at::cat({strip_[k], after_scale[k]}) : after_scale[k];
    }
    strip_labels_.insert(strip_labels_.end(), labels.begin(), labels.end());
  }
  int64_t count() const { return static_cast<int64_t>(labels_.size()); }
  const std::vector<int64_t>& labels() const { return labels_; }

  void write_rest() const {
    if (count() == 0) return;
    if (!files_.out.empty()) sync_file_system(files_.out);
    if (!files_.grid.empty()) write_png(files_.grid, class_grid(at::stack(grid_), grid_labels_, class_names_));
    if (!strip_.empty()) write_png(files_.scales_strip, scale_strip(strip_, scale_names_, strip_labels_, class_names_));
    if (!files_.tokens_out.empty()) {
      write_weights(files_.tokens_out, {.tensors = {{"tokens", at::cat(tokens_)}, {"labels", at::tensor(labels_)}},
                                        .metadata = {{"format", "nextscale.samples"}}});
    }
  }
  void report(int64_t planned) const {
    fmt::print("{}{}\n",
               count() == planned ? fmt::format("{} pictures", planned)
                                  : fmt::format("stopped: {} of {} pictures", count(), planned),
               files_.out.empty() ? std::string() : " in " + files_.out);
    if (count() == 0) return;
    const auto shown = static_cast<int64_t>(grid_.size());
    const std::string part = shown < count() ? fmt::format(" ({} of {} pictures)", shown, count()) : "";
    if (!files_.grid.empty()) std::printf("grid%s: %s\n", part.c_str(), files_.grid.c_str());
    if (!strip_.empty()) std::printf("scale by scale: %s\n", files_.scales_strip.c_str());
    if (!files_.tokens_out.empty()) std::printf("tokens: %s\n", files_.tokens_out.c_str());
  }

 private:
  void keep_for_grid(const at::Tensor& picture,
                     int64_t label) {  // (H, W, C) uint8
    if (files_.grid.empty() || static_cast<int64_t>(grid_.size()) >= kGridPictures) return;
    if (in_grid_[label]++ >= kGridOfClass) return;
    grid_.push_back(picture.permute({2, 0, 1}).clone());
    grid_labels_.push_back(label);
  }

  const SampleFiles& files_;
  std::vector<std::string> class_names_, scale_names_;
  std::vector<int64_t> labels_, grid_labels_, strip_labels_;
  std::vector<at::Tensor> tokens_, grid_, strip_;
  std::map<int64_t, int64_t> in_grid_;  // label -> pictures
};

/// @param strip positions in the batch of the pictures that the strip shows
void sample_batch(const SampleBatch& batch, const std::vector<int64_t>& strip, Models& models,
                  const SampleOptions& options, Outputs& outputs, Scoring* scoring,
                  const std::function<void(int64_t)>& on_scale) {
  std::vector<at::Tensor> after_scale;  // f_hat of the strip's pictures, then they themselves
  const auto positions = at::tensor(strip, at::TensorOptions().dtype(at::kLong).device(models.device));
  const auto samples = sample_planned(models, batch, options, [&](int64_t k, const at::Tensor& f_hat) {
    if (!strip.empty()) after_scale.push_back(f_hat.index_select(0, positions));
    on_scale(k);
  });
  if (!strip.empty()) {
    std::vector<int64_t> labels;
    for (const int64_t i : strip) labels.push_back(batch.labels[static_cast<size_t>(i)]);
    for (auto& each : after_scale) each = decode_to_unit_range(models.tokenizer, each, options.dtype).cpu();
    outputs.add_to_strip(after_scale, labels);
  }
  const auto bytes = bytes_from_unit_range(samples.pictures);  // (N, H, W, C)
  outputs.add_batch(samples, bytes, batch.labels);
  if (scoring != nullptr) scoring->add_generated(bytes, batch.labels);
}

}  // namespace

ExitCode sample(const Words& words) {
  SampleRequest request;
  if (!read_request(words, request)) return ExitCode::done;
  const auto& files = request.files;
  set_threads(request.runtime.threads);
  const Trace trace(request.runtime.trace);
  auto models = load_models(files.model, files.tokenizer, files.raw, request.runtime, request.sampling);
  const auto plan = plan_batches(request.sampling.choice, models.transformer->options().classes,
                                 static_cast<uint64_t>(request.runtime.seed));
  int64_t planned = 0;
  for (const auto& batch : plan) planned += batch.count();
  const auto& picture = models.tokenizer->options();
  const int64_t side = picture.picture_side();
  if (!files.out.empty()) make_picture_folder(files.out, planned, picture.channels, side);
  for (const auto& file : {files.grid, files.scales_strip, files.tokens_out}) prepare_target(file);
  prepare_target(files.npz, npz_bytes(planned, side));

  const StopOnSignal stop;
  std::optional<Scoring> scoring;
  if (!files.evaluate.empty()) {
    scoring.emplace(request.scoring, request.metrics, files.evaluate, request.runtime, models.device);
    if (!scoring->read_reference(stop)) return stop.exit_code();
    scoring->begin_generated(planned, side);
  }
  std::vector<int64_t> for_strip;
  if (!files.scales_strip.empty()) for_strip = pick_across_classes(plan, kStripPictures);
  const auto& scales = models.tokenizer->scales();
  Outputs outputs(files, read_class_names(files), scales);
  {
    Progress progress("sampling", planned, "pictures", request.runtime.quiet);
    for (const auto& batch : plan) {
      if (stop.requested()) break;
      const int64_t done = outputs.count();
      std::vector<int64_t> strip;
      for (const int64_t i : for_strip) {
        if (i >= done && i < done + batch.count()) strip.push_back(i - done);
      }
      sample_batch(batch, strip, models, request.sampling.sampling, outputs, scoring ? &*scoring : nullptr,
                   [&](int64_t k) {
                     progress.update(done + batch.count() * scales.end(k) / scales.length(),
                                     fmt::format("scale {} of {}", k + 1, scales.count()));
                   });
    }
  }
  outputs.write_rest();
  outputs.report(planned);
  if (outputs.count() != planned) return stop.exit_code();
  if (!files.npz.empty()) {
    write_npz_of_pictures(files.npz, files.out, outputs.labels(), files.keep_order, request.runtime.quiet);
    fmt::print("npz: {}\n", files.npz);
  }
  if (scoring) {
    scoring->end_generated(npz_order(planned));
    scoring->finish({.path = files.model,
                     .sampling = sampling_json(files.model, files.tokenizer, request.sampling.sampling,
                                               request.sampling.choice, request.runtime.seed),
                     .comparison = {}},
                    stop);
  }
  return stop.exit_code();
}

}  // namespace nextscale::cli
