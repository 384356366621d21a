#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/data/dataset.h"
#include "nextscale/data/picture.h"
#include "nextscale/train/metrics_log.h"
#include "nextscale/train/run.h"
#include "nextscale/train/tokenizer_trainer.h"
#include "nextscale/train/usage_map.h"

namespace nextscale::cli {
namespace {

struct TokenizerRunOptions {
  std::string run, preset = "auto", weights = "weights";

  static constexpr auto table() {
    using O = TokenizerRunOptions;
    return std::tuple{
        option("run", &O::run,
               "folder of this run: checkpoints, metrics, pictures, log; the same command goes on there"),
        option("preset", &O::preset,
               "model and training: fast (16 to 64 px, a CPU, minutes, no published weights), vqgan (L1, LPIPS, "
               "PatchGAN), paper (as the published tokenizer was trained); auto: fast up to 64 px, else paper",
               one_of("auto", "fast", "vqgan", "paper")),
        option("weights", &O::weights,
               "folder with the published weights of networks that judge (scripts/download-weights.sh)"),
    };
  }
};

struct TokenizerTrainingRequest {
  TokenizerRunOptions run;
  DataOptions data;
  TokenizerRecipe recipe = tokenizer_recipe("fast", 28, 1);
  RuntimeOptions runtime;
};

/// @returns false if help was asked for
bool read_options(const Words& words, CommandLine& line, TokenizerTrainingRequest& options) {
  line.add("Run", bind_options(options.run));
  line.add("Pictures", bind_options(options.data));
  line.add("Tokenizer (defaults: --preset fast, 28 px)",
           without(bind_tokenizer_options(options.recipe.model), {"channels"}));
  line.add("Training", bind_options(options.recipe.training));
  line.add("Adversary", bind_options(options.recipe.adversary));
  line.add("Rates", bind_options(options.recipe.schedule));
  line.add("Length and saving", bind_options(options.recipe.loop));
  line.add("Machine", bind_options(options.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return false;
  }
  line.require("data");
  line.require("run");
  line.exclusive({"epochs", "steps"});
  line.apply();
  return true;
}

/// Default < preset < command line.
void choose_recipe(const CommandLine& line, const DataParts& parts, TokenizerTrainingRequest& options) {
  auto preset = options.run.preset;
  if (preset == "auto") preset = parts.side <= 64 ? "fast" : "paper";
  options.recipe = tokenizer_recipe(preset, parts.side, parts.channels);
  line.apply();
  options.recipe.weights = options.run.weights;
  options.recipe.model.channels = parts.channels;
  check_together(options.recipe.model);
  check_together(options.recipe.schedule);
}

/// Everything that decides the weights, and under "call" what does not.
nlohmann::json run_config(TokenizerTrainingRequest& options, const DataParts& parts, int64_t steps,
                          c10::ScalarType dtype) {
  auto& recipe = options.recipe;
  auto call = call_config(options.runtime, recipe.loop, options.data);
  call["preset"] = options.run.preset;
  call["weights"] = options.run.weights;
  return {{"tokenizer", to_json(bind_tokenizer_options(recipe.model))},
          {"training", options_to_json(recipe.training)},
          {"adversary", options_to_json(recipe.adversary)},
          {"schedule", options_to_json(recipe.schedule)},
          {"data", data_config(options.data, parts)},
          {"batch", recipe.loop.batch},
          {"steps", steps},
          {"seed", options.runtime.seed},
          {"dtype", dtype_text(dtype)},
          {kCallKey, call}};
}

ExitCode print_result(const Run& run, int64_t codes) {
  const auto validation = run.result().value_or(nlohmann::json::object()).value("validation", nlohmann::json::object());
  if (validation.contains("psnr")) {
    fmt::print("PSNR on held-out pictures: {:.2f} dB, codes used: {:.0f} of {}, perplexity {:.0f}\n",
               validation.value("psnr", 0.0), validation.value("used_codes", 0.0), codes,
               validation.value("perplexity", 0.0));
  } else {
    fmt::print("no held-out pictures: not validated\n");
  }
  fmt::print("tokenizer: {}\n", run.directory().string());
  return ExitCode::done;
}

}  // namespace

ExitCode train_tokenizer(const Words& words) {
  TokenizerTrainingRequest options;
  CommandLine line("nextscale train-tokenizer --data PATH --run DIR [OPTIONS]",
                   "Trains the multi-scale tokenizer on pictures: encoder, codebook and decoder. Stopped and called "
                   "again in the same words, it goes on where it was.");
  if (!read_options(words, line, options)) return ExitCode::done;

  const StopOnSignal stop;
  const auto device = resolve_device(options.runtime.device);
  set_threads(options.runtime.threads);
  const auto arithmetic = choose_arithmetic(options.runtime, device, options.run.run);
  const auto dtype = arithmetic.dtype;
  const Trace trace(options.runtime.trace);
  const auto parts = open_data(options.data);
  choose_recipe(line, parts, options);
  auto& recipe = options.recipe;
  const int64_t steps = schedule_steps(line, recipe.loop, parts.train->size());
  if (recipe.loop.validate_every == 0)
    recipe.loop.validate_every = (steps + recipe.validations - 1) / recipe.validations;

  // Everything that can be wrong with the command is found before the run's folder is made.
  TokenizerTrainer trainer(recipe, parts, options.data, steps, options.runtime.seed, device, dtype);
  Run run(options.run.run, "tokenizer", run_config(options, parts, steps, dtype), {kCallKey},
          command_text("train-tokenizer", words));
  const int64_t codes = recipe.model.quantizer.codes;
  if (run.finished()) {
    fmt::print("{}: finished before\n", run.directory().string());
    return print_result(run, codes);
  }
  const std::string about =
      fmt::format("tokenizer: {:.2f} million values, sides {}; {} steps of {} pictures; {}",
                  static_cast<double>(trainer.values()) / 1e6, trainer.tokenizer()->scales().text(), steps,
                  recipe.loop.batch, arithmetic.text);
  note(options.runtime, about);
  run.log_text(about);
  const auto code = run_loop(run, trainer, recipe.loop, steps, stop, options.runtime.quiet, [&](int64_t step) {
    if (trainer.preview().defined()) {
      write_png(run.pictures() / fmt::format("step_{:08}.png", step), trainer.preview());
    }
    const auto usage = usage_map(read_metrics(run.metrics()), trainer.tokenizer()->scales(), codes);
    if (usage.defined()) write_png(run.pictures() / "usage.png", usage);
    if (trainer.warning().empty()) return;
    warn(trainer.warning());
    run.log_text(fmt::format("step {}: warning: {}", step, trainer.warning()));
  });
  if (code != ExitCode::done) return code;
  if (run.finished()) return print_result(run, codes);
  fmt::print("{}: not finished; the same command goes on\n", run.directory().string());
  return code;
}

}  // namespace nextscale::cli
