#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/command_line.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/weights.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

struct DecodeOptions {
  std::string tokens, tokenizer, out;
  int64_t batch = 16;
  bool raw = false;

  static constexpr auto table() {
    using O = DecodeOptions;
    return std::tuple{
        option("tokens", &O::tokens, "safetensors file with tokens (N, L) and, if there are classes, labels (N)"),
        option("tokenizer", &O::tokenizer, "the tokenizer that the tokens are of: a file, or the folder of its run"),
        option("raw", &O::raw, "of a run the weights as trained, not their running average"),
        option("out", &O::out, "folder for the pictures; names that are there already are replaced"),
        option("batch", &O::batch, "pictures decoded at once", between(1, 1 << 20)),
    };
  }
};

bool whole_numbers(const at::Tensor& tensor) { return at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false); }

/// (N, L) int64, all of them codes of the tokenizer.
at::Tensor read_tokens(const WeightsFile& file, const std::string& path, const Tokenizer& tokenizer) {
  const auto where = path + ": tokens";
  const auto found = find_tensor(file.tensors, "tokens");
  if (!found.defined()) throw failure({.where = where, .what = "is missing", .expected = "whole numbers (N, L)"});
  const int64_t length = tokenizer->scales().length(), codes = tokenizer->options().quantizer.codes;
  if (!whole_numbers(found) || found.dim() != 2 || found.size(1) != length) {
    throw failure({where, "do not fit the tokenizer", fmt::format("whole numbers (N, {})", length),
                   fmt::format("{} {}", at::toString(found.scalar_type()), c10::str(found.sizes()))});
  }
  const auto tokens = found.to(at::kLong);
  if (tokens.numel() > 0) {
    const auto low = tokens.min().item<int64_t>(), high = tokens.max().item<int64_t>();
    if (low < 0 || high >= codes) {
      throw failure(
          {where, "outside the codebook", fmt::format("0 to {}", codes - 1), std::to_string(low < 0 ? low : high)});
    }
  }
  return tokens;
}

/// (N) int64; -1 without labels.
at::Tensor read_labels(const WeightsFile& file, const std::string& path, int64_t count) {
  const auto labels = find_tensor(file.tensors, "labels");
  if (!labels.defined()) return at::full({count}, -1, at::kLong);
  if (!whole_numbers(labels) || labels.dim() != 1 || labels.size(0) != count) {
    throw failure({path + ": labels", "do not fit the tokens", fmt::format("whole numbers ({})", count),
                   fmt::format("{} {}", at::toString(labels.scalar_type()), c10::str(labels.sizes()))});
  }
  return labels.to(at::kLong);
}

}  // namespace

ExitCode decode(const Words& words) {
  DecodeOptions options;
  LoadingOptions loading;
  RuntimeOptions runtime;
  CommandLine line("nextscale decode --tokens FILE --tokenizer FILE|RUN --out DIR [OPTIONS]",
                   "Turns token maps back into pictures.");
  line.add("Files", bind_options(options));
  add_loading(line, loading, Loads::tokenizer);
  line.add("Machine", without(bind_options(runtime), {"seed"}));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  for (const char* name : {"tokens", "tokenizer", "out"}) line.require(name);
  line.apply();

  const StopOnSignal stop;
  set_threads(runtime.threads);
  const Trace trace(runtime.trace);
  const auto device = resolve_device(runtime.device);
  const auto dtype = runtime.dtype == "auto" && device.is_cpu() ? c10::kFloat : resolve_dtype(runtime.dtype, device);
  auto tokenizer = load_tokenizer(options.tokenizer, options.raw, tokenizer_hints(line, loading));
  const auto file = read_weights(options.tokens);
  const auto tokens = read_tokens(file, options.tokens, tokenizer);
  const auto labels = read_labels(file, options.tokens, tokens.size(0));
  make_picture_folder(options.out, tokens.size(0), tokenizer->options().channels, tokenizer->options().picture_side());
  tokenizer->to(device);

  const at::NoGradGuard no_grad;
  const int64_t count = tokens.size(0);
  int64_t done = 0;
  {
    Progress progress("decoding", count, "pictures", runtime.quiet);
    while (done < count && !stop.requested()) {
      const int64_t size = std::min(options.batch, count - done);
      const AutocastGuard autocast(device.type(), dtype);
      const auto pictures = tokenizer->decode(tokens.narrow(0, done, size).to(device));
      const auto bytes = bytes_from_network_range(pictures);  // (n, H, W, C)
      for (int64_t i = 0; i < size; ++i, ++done) {
        write_png(fs::path(options.out) / picture_name(done, labels[done].item<int64_t>()), bytes[i], Sync::later);
      }
      progress.update(done);
    }
  }
  sync_file_system(options.out);
  fmt::print("{} in {}\n",
             done == count ? fmt::format("{} pictures", count) : fmt::format("stopped: {} of {} pictures", done, count),
             options.out);
  return stop.exit_code();
}

}  // namespace nextscale::cli
