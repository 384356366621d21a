#include <cstdio>
#include <filesystem>
#include <string>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/train/token_caching.h"

namespace nextscale::cli {
namespace {

struct CacheFiles {
  std::string tokenizer, out;
  bool raw = false;

  static constexpr auto table() {
    using O = CacheFiles;
    return std::tuple{
        option("tokenizer", &O::tokenizer, "the tokenizer: a file, or the folder of its run"),
        option("raw", &O::raw, "of a run the weights as trained, not their running average"),
        option("out", &O::out, "file for the token maps; replaced when all of them are there"),
    };
  }
};

struct CacheRequest {
  CacheFiles files;
  DataOptions data;
  TokenCachingOptions caching;
  LoadingOptions loading;
  RuntimeOptions runtime;
  TokenizerHints hints;
};

bool read_options(const Words& words, CacheRequest& options) {
  CommandLine line("nextscale cache-tokens --data PATH --tokenizer FILE|RUN --out FILE [OPTIONS]",
                   "Turns the pictures of a data set into token maps, once, so that training the transformer needs "
                   "neither pictures nor tokenizer.");
  line.add("Files", bind_options(options.files));
  line.add("Pictures", bind_options(options.data));
  line.add("Views", bind_options(options.caching));
  add_loading(line, options.loading, Loads::tokenizer);
  line.add("Machine", bind_options(options.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  for (const char* name : {"data", "tokenizer", "out"}) line.require(name);
  line.apply();
  options.hints = tokenizer_hints(line, options.loading);
  return true;
}

}  // namespace

ExitCode cache_tokens(const Words& words) {
  CacheRequest options;
  if (!read_options(words, options)) return ExitCode::done;
  const StopOnSignal stop;
  const auto device = resolve_device(options.runtime.device);
  set_threads(options.runtime.threads);
  const auto arithmetic = choose_arithmetic(options.runtime, device);
  const auto dtype = arithmetic.dtype;
  const Trace trace(options.runtime.trace);
  auto tokenizer = load_tokenizer(options.files.tokenizer, options.files.raw, options.hints);
  if (options.data.side == 0) options.data.side = tokenizer->options().picture_side();
  if (options.data.channels == 0) options.data.channels = tokenizer->options().channels;
  const auto parts = open_data(options.data);

  const int64_t total = token_caching_total(options.caching, parts, options.data);
  const int64_t token_bytes = tokenizer->options().quantizer.codes <= 1 << 15 ? 2 : 4;
  prepare_target(options.files.out, static_cast<uint64_t>(total * tokenizer->scales().length() * token_bytes));
  note(options.runtime, "tokenizer in " + arithmetic.text);

  std::optional<TokenCache> cache;
  {
    Progress progress("encoding", total, "pictures", options.runtime.quiet);
    cache = nextscale::cache_tokens(
        tokenizer, parts, options.data, options.caching, options.runtime.seed, device, dtype,
        {.progress = [&](int64_t done) { progress.update(done); }, .stop = [&] { return stop.requested(); }});
  }
  if (!cache) {
    note(options.runtime, "stopped: nothing was written");
    return stop.exit_code();
  }
  for (const auto& part : {parts.train, parts.val}) {
    if (!part) continue;
    for (const auto& fault : part->faults()) warn(fault + "; another picture stands in for it (--skip-bad)");
  }
  write_token_cache(options.files.out, *cache);
  fmt::print("{} token maps of {} training pictures, {} of held-out pictures: {}\n", cache->train_tokens.size(0),
             cache->train_labels.size(0), cache->val_tokens.size(0), options.files.out);
  return ExitCode::done;
}

}  // namespace nextscale::cli
