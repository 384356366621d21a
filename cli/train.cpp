#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/train/pictures.h"
#include "nextscale/train/run.h"
#include "nextscale/train/token_source.h"
#include "nextscale/train/transformer_trainer.h"

namespace nextscale::cli {
namespace {

// Above this side the fast preset is too small to be of use.
constexpr int64_t kLargestFastSide = 64;

struct TrainFiles {
  std::string tokens, tokenizer, run, preset = "auto";
  bool raw = false;

  static constexpr auto table() {
    using O = TrainFiles;
    return std::tuple{
        option("tokens", &O::tokens, "token cache (cache-tokens); carries what is needed of its tokenizer"),
        option("tokenizer", &O::tokenizer,
               "with --data: the tokenizer, a file or the folder of its run; with --tokens: must be the cache's own"),
        option("raw", &O::raw, "of the tokenizer's run the weights as trained, not their running average"),
        option("run", &O::run, "folder of this run: checkpoints, metrics, log; the same command goes on there"),
        option("preset", &O::preset,
               "model and training: fast (up to 64 px, a CPU, minutes), d16, d20, d24, d30, d36-s as published; auto: "
               "--depth's own if that is given, else fast or d16 by the pictures' side",
               one_of("auto", "fast", "d16", "d20", "d24", "d30", "d36-s")),
    };
  }
};

struct TransformerRequest {
  TrainFiles files;
  DataOptions data;
  TransformerRecipe recipe = transformer_recipe("fast");
  LoadingOptions loading;  // of the tokenizer
  RuntimeOptions runtime;
  TokenizerHints hints;
};

/// What the transformer is trained on: a token cache, or pictures with a tokenizer.
struct Material {
  std::optional<TokenCache> cache;
  Tokenizer tokenizer{nullptr};
  DataParts parts;
  std::string tokenizer_hash;
  QuantizerOptions quantizer;
  std::vector<std::string> class_names;
  int64_t picture_side = 0, pictures = 0;
};

void require_same_tokenizer(const std::string& tokens, const std::string& tokenizer, const std::string& cached_hash,
                            const std::string& hash) {
  if (cached_hash == hash) return;
  throw failure({.where = tokens,
                 .what = "was made by another tokenizer than " + tokenizer,
                 .expected = "tokenizer " + hash,
                 .got = cached_hash});
}

Material material_from_cache(TransformerRequest& options) {
  Material out;
  auto cache = read_token_cache(options.files.tokens);
  if (!options.files.tokenizer.empty()) {
    const auto tokenizer = load_tokenizer(options.files.tokenizer, options.files.raw, options.hints);
    require_same_tokenizer(options.files.tokens, options.files.tokenizer, cache.tokenizer_hash,
                           weights_hash(state_dict(*tokenizer)));
  }
  if (options.data.unconditional) {
    cache.class_names.clear();
    cache.train_labels = at::zeros_like(cache.train_labels);
    cache.val_labels = at::zeros_like(cache.val_labels);
  }
  TokenizerOptions tokenizer;
  read_json(bind_tokenizer_options(tokenizer),
            nlohmann::json::parse(cache.tokenizer_config, nullptr, /*allow_exceptions=*/false), options.files.tokens);
  out.tokenizer_hash = cache.tokenizer_hash;
  out.quantizer = tokenizer.quantizer;
  out.class_names = cache.class_names;
  out.picture_side = tokenizer.picture_side();
  out.pictures = cache.train_labels.size(0);
  out.cache = std::move(cache);
  return out;
}

Material material_from_pictures(TransformerRequest& options) {
  Material out;
  out.tokenizer = load_tokenizer(options.files.tokenizer, options.files.raw, options.hints);
  if (options.data.side == 0) options.data.side = out.tokenizer->options().picture_side();
  if (options.data.channels == 0) options.data.channels = out.tokenizer->options().channels;
  out.parts = open_data(options.data);
  require_side(out.tokenizer->options(), out.parts.side, out.parts.channels);
  out.tokenizer_hash = weights_hash(state_dict(*out.tokenizer));
  out.quantizer = out.tokenizer->options().quantizer;
  out.class_names = out.parts.class_names;
  out.picture_side = out.parts.side;
  out.pictures = out.parts.train->size();
  return out;
}

TransformerRecipe choose_recipe(const CommandLine& line, const TransformerRequest& options, int64_t picture_side) {
  const auto& preset = options.files.preset;
  if (preset != "auto") return transformer_recipe(preset);
  if (line.given("depth")) return transformer_recipe(options.recipe.model.depth);
  return transformer_recipe(picture_side <= kLargestFastSide ? "fast" : "d16");
}

bool read_options(const Words& words, CommandLine& line, TransformerRequest& options) {
  line.add("Run", bind_options(options.files));
  line.add("Pictures (with --data)", bind_options(options.data));
  line.add("Transformer (defaults: --preset fast)", architecture_options(options.recipe.model));
  line.add("Training", bind_options(options.recipe.training));
  line.add("Rates", bind_options(options.recipe.schedule));
  line.add("Length and saving", bind_options(options.recipe.loop));
  add_loading(line, options.loading, Loads::tokenizer);
  line.add("Machine", bind_options(options.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  line.require("run");
  line.exclusive({"tokens", "data"});
  line.exclusive({"epochs", "steps"});
  if (!line.given("tokens") && !line.given("data")) {
    throw usage({.where = "--tokens", .what = "is missing: give --tokens, or --data and --tokenizer (see --help)"});
  }
  if (line.given("data")) line.require("tokenizer");
  line.apply();
  options.hints = tokenizer_hints(line, options.loading);
  return true;
}

/// Everything that decides the weights, and under "call" what does not.
nlohmann::json run_config(const TransformerRequest& options, const Material& material, int64_t steps,
                          c10::ScalarType dtype) {
  const auto& recipe = options.recipe;
  nlohmann::json config = {{"transformer", options_to_json(recipe.model)},
                           {"training", options_to_json(recipe.training)},
                           {"schedule", options_to_json(recipe.schedule)},
                           {"batch", recipe.loop.batch},
                           {"steps", steps},
                           {"seed", options.runtime.seed},
                           {"dtype", dtype_text(dtype)},
                           {"tokenizer_hash", material.tokenizer_hash}};
  auto call = call_config(options.runtime, recipe.loop, options.data);
  call["tokens"] = options.files.tokens;
  call["tokenizer"] = options.files.tokenizer;
  call["preset"] = options.files.preset;
  config[kCallKey] = call;
  if (material.cache) {
    config["data"] = {{"fingerprint", material.cache->data_fingerprint},
                      {"class_names", material.class_names},
                      {"views", material.cache->views},
                      {"tokens", weights_hash({{"train", material.cache->train_tokens}})}};
  } else {
    config["data"] = data_config(options.data, material.parts);
  }
  return config;
}

ExitCode print_transformer_result(const Run& run) {
  const auto validation = run.result().value_or(nlohmann::json::object()).value("validation", nlohmann::json::object());
  if (validation.contains("loss")) {
    fmt::print("cross-entropy on held-out pictures: {:.3f} (training pictures {:.3f}), accuracy {:.1f} %\n",
               validation.value("loss", 0.0), validation.value("train_loss", 0.0),
               100 * validation.value("accuracy", 0.0));
  } else {
    fmt::print("no held-out pictures: not validated\n");
  }
  fmt::print("transformer: {}\n", run.directory().string());
  return ExitCode::done;
}

}  // namespace

ExitCode train(const Words& words) {
  TransformerRequest options;
  CommandLine line("nextscale train (--tokens FILE | --data PATH --tokenizer FILE|RUN) --run DIR [OPTIONS]",
                   "Trains the transformer to predict the token maps of pictures, scale by scale. Stopped and called "
                   "again in the same words, it goes on where it was.");
  if (!read_options(words, line, options)) return ExitCode::done;

  const StopOnSignal stop;
  const auto device = resolve_device(options.runtime.device);
  set_threads(options.runtime.threads);
  const auto arithmetic = choose_arithmetic(options.runtime, device, options.files.run);
  const auto dtype = arithmetic.dtype;
  const Trace trace(options.runtime.trace);
  auto material = options.files.tokens.empty() ? material_from_pictures(options) : material_from_cache(options);

  options.recipe = choose_recipe(line, options, material.picture_side);
  line.apply();
  auto& recipe = options.recipe;
  if (recipe.lr_per_256 > 0 && !line.given("lr")) {
    recipe.schedule.lr = recipe.lr_per_256 * static_cast<double>(recipe.loop.batch) / 256;
  }
  recipe.model = fit_to_tokens(recipe.model, material.quantizer, static_cast<int64_t>(material.class_names.size()));
  const int64_t steps = schedule_steps(line, recipe.loop, material.pictures);
  check_together(recipe.model);
  check_together(recipe.schedule);
  check_together(recipe.training, recipe.loop, Scales(recipe.model.sides));

  if (recipe.loop.validate_every == 0)
    recipe.loop.validate_every = (steps + recipe.validations - 1) / recipe.validations;

  const auto config = run_config(options, material, steps, dtype);
  auto source = material.cache
                    ? tokens_from_cache(std::move(*material.cache), recipe.loop.batch, options.runtime.seed, device)
                    : tokens_from_pictures(material.tokenizer, material.parts, options.data, recipe.loop.batch,
                                           options.runtime.seed, device, dtype);
  Run run(options.files.run, "transformer", config, {kCallKey}, command_text("train", words));
  if (run.finished()) {
    fmt::print("{}: finished before\n", run.directory().string());
    return print_transformer_result(run);
  }
  TransformerTrainer trainer(
      recipe, std::move(source), steps, options.runtime.seed, device, dtype,
      {{"class_names", nlohmann::json(material.class_names).dump()}, {"tokenizer_hash", material.tokenizer_hash}});
  const std::string about =
      fmt::format("transformer: {:.2f} million values, {} tokens a picture, {} classes; {} steps of {} pictures; {}",
                  static_cast<double>(trainer.values()) / 1e6, trainer.transformer()->scales().length(),
                  recipe.model.classes, steps, recipe.loop.batch, arithmetic.text);
  note(options.runtime, about);
  run.log_text(about);
  const auto code = run_loop(run, trainer, recipe.loop, steps, stop, options.runtime.quiet, [&](int64_t step) {
    if (trainer.warning().empty()) return;
    warn(trainer.warning());
    run.log_text(fmt::format("step {}: warning: {}", step, trainer.warning()));
  });
  if (code != ExitCode::done) return code;
  if (run.finished()) return print_transformer_result(run);
  fmt::print("{}: not finished; the same command goes on\n", run.directory().string());
  return code;
}

}  // namespace nextscale::cli
