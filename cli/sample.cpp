#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
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
#include "nextscale/cli/loading.h"
#include "nextscale/cli/npz_samples.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/sample/fit.h"
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
  std::string model, tokenizer, out, grid, scales_strip, tokens_out, npz;
  bool keep_order = false;
  bool raw = false;

  static constexpr auto table() {
    using O = SampleFiles;
    return std::tuple{
        option("model", &O::model, "transformer: a file, or the folder of its run"),
        option("tokenizer", &O::tokenizer, "the tokenizer that it was trained with: a file, or the folder of its run"),
        option("raw", &O::raw, "of runs the weights as trained, not their running average"),
        option("out", &O::out, "folder for the pictures; names that are there already are replaced"),
        option("grid", &O::grid, "PNG file: one row a class, its name on the left"),
        option("scales_strip", &O::scales_strip,
               "PNG file: some pictures after each scale, of as many classes as there are, up to 8"),
        option("tokens_out", &O::tokens_out, "safetensors file: tokens (N, L) and labels (N), int64, -1 for no label"),
        option("npz", &O::npz,
               "file for ADM's evaluator: arr_0 uint8 (N, H, W, 3), arr_1 labels, in a fixed random order"),
        option("keep_order", &O::keep_order,
               "the npz's pictures in the order of their names (sorted by class they ruin the Inception Score)"),
    };
  }
};

/// Everything that was typed.
struct Request {
  SampleFiles files;
  ChoiceOptions choice;
  SampleOptions sampling;
  LoadingOptions loading;
  RuntimeOptions runtime;
  TransformerHints transformer_hints;
  TokenizerHints tokenizer_hints;
};

bool read_request(const Words& words, Request& request) {
  CommandLine line("nextscale sample --model FILE|RUN --tokenizer FILE|RUN --out DIR [OPTIONS]",
                   "Makes pictures scale by scale. In float32 on the processor the same weights, options and seed give "
                   "the same pictures, and the tokens of the Python reference.");
  line.add("files", bind_options(request.files));
  line.add("which pictures", bind_options(request.choice));
  line.add("sampling", bind_options(request.sampling));
  add_loading(line, request.loading, Loads::both);
  line.add("machine", bind_options(request.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  line.apply();
  for (const char* name : {"model", "tokenizer", "out"}) line.require(name);
  line.exclusive({"labels", "random_labels", "classes"});
  line.exclusive({"labels", "random_labels", "per_class"});
  const auto refuse_empty = [&](const char* name, bool empty) {
    if (line.given(name) && empty) throw usage({"--" + std::string(name), "is empty", "numbers with commas", "''"});
  };
  refuse_empty("labels", request.choice.labels.empty());
  refuse_empty("classes", request.choice.classes.empty());
  if (line.given("per_class") && !line.given("classes")) request.choice.classes = "all";
  if (line.given("keep_order")) line.require("npz");
  request.transformer_hints = transformer_hints(line, request.loading);
  request.tokenizer_hints = tokenizer_hints(line, request.loading);
  return true;
}

/// Metadata "class_names" of the transformer's file, a JSON list; empty where there is none.
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

  void add_batch(const Samples& samples, const std::vector<int64_t>& labels) {
    const auto bytes = bytes_from_unit_range(samples.pictures);  // (N, H, W, C)
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto picture = bytes[static_cast<int64_t>(i)];
      write_png(fs::path(files_.out) / picture_name(count(), labels[i]), picture, Sync::later);
      labels_.push_back(labels[i]);
      keep_for_grid(picture, labels[i]);
    }
    if (!files_.tokens_out.empty()) tokens_.push_back(samples.tokens.cpu());
  }
  /// @param after_scale K tensors (n, C, H, W) in [0, 1], of pictures with these labels
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
    sync_file_system(files_.out);
    if (!files_.grid.empty()) write_png(files_.grid, class_grid(at::stack(grid_), grid_labels_, class_names_));
    if (!strip_.empty()) write_png(files_.scales_strip, scale_strip(strip_, scale_names_, strip_labels_, class_names_));
    if (!files_.tokens_out.empty()) {
      write_weights(files_.tokens_out, {.tensors = {{"tokens", at::cat(tokens_)}, {"labels", at::tensor(labels_)}},
                                        .metadata = {{"format", "nextscale.samples"}}});
    }
  }
  void report(int64_t planned) const {
    std::printf("%s in %s\n",
                count() == planned ? fmt::format("{} pictures", planned).c_str()
                                   : fmt::format("stopped: {} of {} pictures", count(), planned).c_str(),
                files_.out.c_str());
    if (count() == 0) return;
    const auto shown = static_cast<int64_t>(grid_.size());
    const std::string part = shown < count() ? fmt::format(" ({} of {} pictures)", shown, count()) : "";
    if (!files_.grid.empty()) std::printf("grid%s: %s\n", part.c_str(), files_.grid.c_str());
    if (!strip_.empty()) std::printf("scale by scale: %s\n", files_.scales_strip.c_str());
    if (!files_.tokens_out.empty()) std::printf("tokens: %s\n", files_.tokens_out.c_str());
  }

 private:
  void keep_for_grid(const at::Tensor& picture, int64_t label) {  // (H, W, C) uint8
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

struct Models {
  Transformer transformer{nullptr};
  Tokenizer tokenizer{nullptr};
  c10::Device device;
};

Models load_models(const Request& request) {
  Models models{.device = resolve_device(request.runtime.device)};
  models.transformer = load_transformer(request.files.model, request.files.raw, request.transformer_hints);
  auto hints = request.tokenizer_hints;
  hints.fallback_sides = models.transformer->options().sides;
  models.tokenizer = load_tokenizer(request.files.tokenizer, request.files.raw, hints);
  check_fit(models.transformer->options(), models.tokenizer->options().quantizer);
  const int64_t channels = models.tokenizer->options().channels;
  if (channels != 1 && channels != 3) {
    throw failure({request.files.tokenizer, "makes pictures that PNG files cannot hold", "1 or 3 channels",
                   std::to_string(channels)});
  }
  models.transformer->to(models.device);
  models.tokenizer->to(models.device);
  return models;
}

/// @param strip positions in the batch of the pictures that the strip shows
void sample_batch(const SampleBatch& batch, const std::vector<int64_t>& strip, Models& models,
                  const SampleOptions& options, Outputs& outputs, const std::function<void(int64_t)>& on_scale) {
  auto generator = batch.generator();
  std::vector<at::Tensor> after_scale;  // f_hat of the strip's pictures, then they themselves
  const auto positions = at::tensor(strip, at::TensorOptions().dtype(at::kLong).device(models.device));
  const auto samples = sample_pictures(models.transformer, models.tokenizer, at::tensor(batch.labels), options,
                                       generator, [&](int64_t k, const at::Tensor& f_hat) {
                                         if (!strip.empty()) after_scale.push_back(f_hat.index_select(0, positions));
                                         on_scale(k);
                                       });
  if (!strip.empty()) {
    std::vector<int64_t> labels;
    for (const int64_t i : strip) labels.push_back(batch.labels[static_cast<size_t>(i)]);
    for (auto& each : after_scale) each = decode_to_unit_range(models.tokenizer, each, options.dtype).cpu();
    outputs.add_to_strip(after_scale, labels);
  }
  outputs.add_batch(samples, batch.labels);
}

}  // namespace

ExitCode sample(const Words& words) {
  Request request;
  if (!read_request(words, request)) return ExitCode::done;
  set_threads(request.runtime.threads);
  const Trace trace(request.runtime.trace);
  auto models = load_models(request);
  // On the processor float32 unless asked otherwise: the reference's tokens, and small batches gain little from less.
  request.sampling.dtype = request.runtime.dtype == "auto" && models.device.is_cpu()
                               ? c10::kFloat
                               : resolve_dtype(request.runtime.dtype, models.device);
  if (request.sampling.dtype != c10::kFloat) models.transformer->keep_matrices_in(request.sampling.dtype);
  const auto plan =
      plan_batches(request.choice, models.transformer->options().classes, static_cast<uint64_t>(request.runtime.seed));
  int64_t planned = 0;
  for (const auto& batch : plan) planned += batch.count();
  const auto& picture = models.tokenizer->options();
  make_picture_folder(request.files.out, planned, picture.channels, picture.picture_side());
  for (const auto& file : {request.files.grid, request.files.scales_strip, request.files.tokens_out}) {
    prepare_target(file);
  }
  prepare_target(request.files.npz, npz_bytes(planned, picture.picture_side()));

  std::vector<int64_t> for_strip;
  if (!request.files.scales_strip.empty()) for_strip = pick_across_classes(plan, kStripPictures);
  const auto& scales = models.tokenizer->scales();
  Outputs outputs(request.files, read_class_names(request.files), scales);
  const StopOnSignal stop;
  {
    Progress progress("sampling", planned, "pictures", request.runtime.quiet);
    for (const auto& batch : plan) {
      if (stop.requested()) break;
      const int64_t done = outputs.count();
      std::vector<int64_t> strip;
      for (const int64_t i : for_strip) {
        if (i >= done && i < done + batch.count()) strip.push_back(i - done);
      }
      sample_batch(batch, strip, models, request.sampling, outputs, [&](int64_t k) {
        progress.update(done + batch.count() * scales.end(k) / scales.length(),
                        fmt::format("scale {} of {}", k + 1, scales.count()));
      });
    }
  }
  outputs.write_rest();
  outputs.report(planned);
  if (!request.files.npz.empty() && outputs.count() == planned) {
    write_npz_of_pictures(request.files.npz, request.files.out, outputs.labels(), request.files.keep_order,
                          request.runtime.quiet);
    std::printf("npz: %s\n", request.files.npz.c_str());
  }
  return stop.exit_code();
}

}  // namespace nextscale::cli
