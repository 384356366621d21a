#include <algorithm>
#include <cstdio>
#include <filesystem>
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
#include "nextscale/cli/targets.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/file_store.h"
#include "nextscale/data/picture.h"
#include "nextscale/evaluate/samples.h"
#include "nextscale/io/weights.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

struct EncodeOptions {
  std::string tokenizer;
  std::vector<std::string> images;
  std::string tokens_out;
  double mid_reso = 1.125;
  int64_t batch = 16;
  bool raw = false;

  static constexpr auto table() {
    using O = EncodeOptions;
    return std::tuple{
        option("tokenizer", &O::tokenizer, "the tokenizer: a file, or the folder of its run"),
        option("raw", &O::raw, "of a run the weights as trained, not their running average"),
        option("images", &O::images, "pictures and folders of pictures (with all below, in code-point order)"),
        option(
            "tokens_out", &O::tokens_out,
            "safetensors file: tokens (N, L) and labels (N), int64; labels from names as sample gives them, else -1"),
        option("mid_reso", &O::mid_reso,
               "pictures of another size than the tokenizer's: shorter side before the center crop, in sides",
               between(1.0, 4.0)),
        option("batch", &O::batch, "pictures encoded at once", between(1, 1 << 20)),
    };
  }
};

std::vector<fs::path> list_pictures(const std::vector<std::string>& images) {
  std::vector<fs::path> paths;
  for (const auto& image : images) {
    const auto status = fs::status(image);
    if (!fs::exists(status)) throw failure({.where = image, .what = "is not there"});
    if (!fs::is_directory(status)) {
      paths.emplace_back(image);
      continue;
    }
    const auto store = open_folder(image);
    if (store->pictures().empty()) throw failure({.where = image, .what = "holds no pictures"});
    std::vector<std::string> names;
    for (const auto& picture : store->pictures()) names.push_back(picture.name);
    std::sort(names.begin(), names.end());  // bytes of UTF-8: the order of code points
    for (const auto& name : names) paths.push_back(fs::path(image) / name);
  }
  return paths;
}

/// (channels, side, side) in [-1, 1]; exactly the tokenizer's size as it is, anything else as validation sees it.
at::Tensor network_input(const fs::path& path, const TokenizerOptions& tokenizer, double mid_reso) {
  const int64_t side = tokenizer.picture_side();
  auto picture = read_picture(path, tokenizer.channels);  // (H, W, channels)
  if (picture.size(0) != side || picture.size(1) != side) {
    picture = resize_shorter_side(picture, mid_length(mid_reso, side));
    picture = crop(picture, center_offsets(picture.size(0), picture.size(1), side), side);
  }
  return to_network_range(picture.permute({2, 0, 1}));
}

}  // namespace

ExitCode encode(const Words& words) {
  EncodeOptions options;
  LoadingOptions loading;
  RuntimeOptions runtime;
  CommandLine line("nextscale encode --tokenizer FILE|RUN --images FILE|DIR... --tokens-out FILE [OPTIONS]",
                   "Turns pictures into token maps. In float32 on the processor the tokens are the reference's.");
  line.add("Files", bind_options(options));
  add_loading(line, loading, Loads::tokenizer);
  line.add("Machine", without(bind_options(runtime), {"seed"}));
  line.allow_positional("FILE|DIR", "further pictures and folders of --images");
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  for (const char* name : {"tokenizer", "images", "tokens_out"}) line.require(name);
  line.apply();
  options.images.insert(options.images.end(), line.positional().begin(), line.positional().end());

  const StopOnSignal stop;
  set_threads(runtime.threads);
  const Trace trace(runtime.trace);
  const auto device = resolve_device(runtime.device);
  const auto dtype = runtime.dtype == "auto" && device.is_cpu() ? c10::kFloat : resolve_dtype(runtime.dtype, device);
  const auto paths = list_pictures(options.images);
  auto tokenizer = load_tokenizer(options.tokenizer, options.raw, tokenizer_hints(line, loading));
  prepare_target(options.tokens_out,
                 paths.size() * sizeof(int64_t) * static_cast<uint64_t>(tokenizer->scales().length()));
  tokenizer->to(device);

  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tokens;
  std::vector<int64_t> labels;
  std::vector<std::string> names;
  Progress progress("encoding", static_cast<int64_t>(paths.size()), "pictures", runtime.quiet);
  for (size_t first = 0; first < paths.size(); first += static_cast<size_t>(options.batch)) {
    if (stop.requested()) {
      progress.finish();
      note(runtime, fmt::format("stopped: {} is not written", options.tokens_out));
      return stop.exit_code();
    }
    std::vector<at::Tensor> pictures;
    for (size_t i = first; i < std::min(paths.size(), first + static_cast<size_t>(options.batch)); ++i) {
      pictures.push_back(network_input(paths[i], tokenizer->options(), options.mid_reso));
      labels.push_back(class_in_name(paths[i].filename().string()).value_or(-1));
      names.push_back(paths[i].string());
    }
    const AutocastGuard autocast(device.type(), dtype);
    tokens.push_back(tokenizer->encode(at::stack(pictures).to(device)).cpu());
    progress.update(static_cast<int64_t>(names.size()));
  }
  progress.finish();
  const auto name_list = nlohmann::json(names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  write_weights(options.tokens_out, {.tensors = {{"tokens", at::cat(tokens)}, {"labels", at::tensor(labels)}},
                                     .metadata = {{"format", "nextscale.samples"}, {"names", name_list}}});
  fmt::print("{} pictures, {} tokens each: {}\n", names.size(), tokenizer->scales().length(), options.tokens_out);
  return ExitCode::done;
}

}  // namespace nextscale::cli
