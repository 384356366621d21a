#include <cstdio>
#include <string>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/command_line.h"
#include "nextscale/base/error.h"
#include "nextscale/base/stop.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/data/dataset.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/train/classifier_trainer.h"
#include "nextscale/train/loop.h"
#include "nextscale/train/run.h"
#include "nextscale/train/seeds.h"

namespace nextscale::cli {
namespace {

struct RunOptions {
  std::string run;
  std::string preset = "fast";

  static constexpr auto table() {
    using O = RunOptions;
    return std::tuple{
        option("run", &O::run, "folder of this run: checkpoints, metrics, log; the same command goes on there"),
        option("preset", &O::preset, "fast: pictures up to 64 px on a CPU, two minutes for 60,000 of 28 px",
               one_of("fast")),
    };
  }
};

struct ClassifierTrainingRequest {
  RunOptions run;
  DataOptions data;
  ClassifierOptions classifier;
  ClassifierTrainingOptions training;
  ScheduleOptions schedule{.lr = 4e-3, .weight_decay = 0.05, .schedule = "cos", .warmup = 0.1, .warmup_start = 0.01};
  LoopOptions loop{.batch = 128, .epochs = 4};
  RuntimeOptions runtime;
};

/// Everything that decides the weights, and under "call" what does not.
nlohmann::json run_config(const ClassifierTrainingRequest& options, const DataParts& parts, int64_t steps,
                          c10::ScalarType dtype) {
  auto call = call_config(options.runtime, options.loop, options.data);
  call["preset"] = options.run.preset;
  call["quick_validation"] = options.training.quick_validation;
  auto training = options_to_json(options.training);
  training.erase("quick_validation");
  return {{"classifier", options_to_json(options.classifier)},
          {"training", training},
          {"schedule", options_to_json(options.schedule)},
          {"data", data_config(options.data, parts)},
          {"batch", options.loop.batch},
          {"steps", steps},
          {"seed", options.runtime.seed},
          {"dtype", dtype_text(dtype)},
          {kCallKey, call}};
}

ExitCode print_classifier_result(const Run& run) {
  const auto result = run.result();
  const auto path = (run.directory() / "finished.json").string();
  if (!result || !result->contains("validation") || !result->at("validation").contains("accuracy") ||
      !result->at("validation").at("accuracy").is_number()) {
    throw failure({.where = path, .what = "damaged", .expected = "the validation's accuracy"});
  }
  const double accuracy = result->at("validation").at("accuracy").get<double>();
  fmt::print("accuracy on held-out pictures: {:.2f} %\n", 100 * accuracy);
  return ExitCode::done;
}

}  // namespace

ExitCode train_classifier(const Words& words) {
  ClassifierTrainingRequest options;
  CommandLine line(
      "nextscale train-classifier --data PATH --run DIR [OPTIONS]",
      "Trains the small judge: a classifier that says whether samples are recognised, and whose features give a "
      "distance to real pictures. It sees training pictures only.");
  line.add("Run", bind_options(options.run));
  line.add("Pictures", without(bind_options(options.data), {"unconditional"}));
  line.add("Network", without(bind_options(options.classifier), {"classes", "channels", "side"}));
  line.add("Training", bind_options(options.training));
  line.add("Rates", bind_options(options.schedule));
  line.add("Length and saving", bind_options(options.loop));
  line.add("Machine", bind_options(options.runtime));
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  line.require("data");
  line.require("run");
  line.exclusive({"epochs", "steps"});
  line.apply();
  check_together(options.schedule);

  const StopOnSignal stop;
  const auto device = resolve_device(options.runtime.device);
  set_threads(options.runtime.threads);
  const auto arithmetic = choose_arithmetic(options.runtime, device, options.run.run);
  const auto dtype = arithmetic.dtype;
  const Trace trace(options.runtime.trace);

  const DataParts parts = open_data(options.data);
  options.classifier.classes = parts.classes();
  options.classifier.side = parts.side;
  options.classifier.channels = parts.channels;
  if (parts.side % options.classifier.fold != 0) {
    throw usage({"--fold", "does not divide the pictures' side", "a divisor of " + std::to_string(parts.side),
                 std::to_string(options.classifier.fold)});
  }
  if (parts.classes() == 0)
    throw failure({.where = options.data.data, .what = "a classifier needs pictures with classes"});
  const int64_t steps = schedule_steps(line, options.loop, parts.train->size());

  // The first weights come from LibTorch's own generator: there is no other way into its layers.
  at::manual_seed(purpose_seed(options.runtime.seed, Purpose::initial_weights));
  const ClassifierTrainerSettings settings{.training = options.training,
                                           .schedule = options.schedule,
                                           .batch = options.loop.batch,
                                           .steps = steps,
                                           .seed = static_cast<uint64_t>(options.runtime.seed),
                                           .device = device,
                                           .dtype = dtype};
  // Everything that can be wrong with the command is found before the run's folder is made.
  ClassifierTrainer trainer(Classifier(options.classifier), parts, options.data, settings);
  Run run(options.run.run, "classifier", run_config(options, parts, steps, dtype), {kCallKey},
          command_text("train-classifier", words));
  if (run.finished()) {
    fmt::print("{}: finished before\n", run.directory().string());
    return print_classifier_result(run);
  }
  const std::string about =
      fmt::format("classifier: {} classes of {} x {} pictures; {} steps of {} pictures; {}", parts.classes(),
                  parts.side, parts.side, steps, options.loop.batch, arithmetic.text);
  note(options.runtime, about);
  run.log_text(about);
  const auto code = run_loop(run, trainer, options.loop, steps, stop, options.runtime.quiet);
  if (code != ExitCode::done) return code;
  if (run.finished()) return print_classifier_result(run);
  fmt::print("{}: not finished; the same command goes on\n", run.directory().string());
  return code;
}

}  // namespace nextscale::cli
