#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/options.h"
#include "nextscale/base/stop.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/train/run.h"

namespace nextscale {

struct LoopOptions {
  int64_t batch = 32;
  double epochs = 0;
  int64_t steps = 0;
  int64_t max_steps = 0;
  double max_minutes = 0;
  int64_t save_every = 0;
  int64_t keep = 2;
  int64_t validate_every = 0;

  static constexpr auto table() {
    using O = LoopOptions;
    return std::tuple{
        option("batch", &O::batch, "pictures per step", between(1, 1 << 20)),
        option("epochs", &O::epochs, "length of the schedule in passes over the data; 0 = --steps or the preset's",
               between(0.0, 1e6)),
        option("steps", &O::steps, "length of the schedule in steps; 0 = --epochs or the preset's", at_least(0)),
        option("max_steps", &O::max_steps,
               "stop after this many steps of this call; the same command goes on; 0 = no limit", at_least(0)),
        option("max_minutes", &O::max_minutes, "stop after this many minutes; the same command goes on; 0 = no limit",
               between(0.0, 1e9)),
        option("save_every", &O::save_every, "steps between checkpoints; 0 = a tenth of the schedule", at_least(0)),
        option("keep", &O::keep, "checkpoints to keep; 0 = all", at_least(0)),
        option("validate_every", &O::validate_every, "steps between validations; 0 = a tenth of the schedule",
               at_least(0)),
    };
  }
};

struct StepReport {
  double loss = 0;
  double lr = 0;
  double grad_norm = 0;
  std::map<std::string, double> more;  ///< further numbers for metrics.jsonl
  std::vector<std::string> notes{};    ///< what a user should know now, for the log and the terminal
  int64_t replaced = 0;  ///< pictures of this step that stood in for ones that cannot be decoded; also without a report
};

/// What the loop drives. All state that decides the future is in save()/load(): weights, EMA, optimizer, generators.
/// Steps are 0-based; the step index alone decides data and schedule.
class Trainee {
 public:
  virtual ~Trainee() = default;
  /// One optimizer step. Numbers are only computed when `report` is set (no synchronisation otherwise); it must not
  /// change what is computed.
  virtual StepReport step(int64_t step, bool report) = 0;
  /// Changes no state that save() keeps: a run that is stopped here validates again or not at all.
  virtual std::map<std::string, double> validate(int64_t step) = 0;
  /// Writes model, EMA, optimizer and generators with checkpoint.file(NAME); state.json is the loop's.
  virtual void save(const CheckpointWriter& checkpoint) = 0;
  virtual void load(const std::filesystem::path& checkpoint) = 0;
  /// The EMA weights as a shareable file (the weak guide of later guidance methods).
  virtual void save_snapshot(const std::filesystem::path& path) = 0;
  /// Why pictures met so far cannot be decoded (--skip-bad), a line each.
  virtual std::vector<std::string> data_faults() const { return {}; }
  /// What `batch` counts, for the progress bar.
  virtual std::string unit() const { return "pictures"; }
  /// Rough size of a checkpoint, for the check of free disk space before the first step; 0 = unknown.
  virtual uint64_t checkpoint_bytes() const { return 0; }
};

/// Runs steps from the newest checkpoint (or 0) to `steps`: saving every save_every and at the end, validation, stop
/// on signals, limits, progress with loss, rate and time left, a snapshot at 1/16 of the schedule, metrics.
///
/// metrics.jsonl gets {"step", "loss", "lr", "grad_norm", "pictures_per_s", …more} on every tenth step (every hundredth
/// part of short runs) and before each checkpoint, and {"step", "validation": {…}}; its "step" counts finished steps.
/// checkpoints/step_N/state.json is {"step", "steps", "kind", "versions"}. At the end of the schedule the run is marked
/// as finished with {"step", "loss", "validation", "time"}; a run that is ended by max_steps or max_minutes is not.
/// Where pictures stood in for bad ones, metrics, state.json and finished.json have "replaced_pictures", their number
/// from step 0 on, and log.txt names each bad picture once a call.
///
/// A NaN or infinite loss or gradient norm ends with an Error and nothing saved after the last good checkpoint.
/// @param steps length of the schedule
/// @param on_validate called after each validation with the number of finished steps (previews, scores)
/// @returns done, or interrupted / terminated after saving
/// @throws Error failure naming the newest checkpoint if it is damaged; for too little disk
ExitCode run_loop(Run& run, Trainee& trainee, const LoopOptions& options, int64_t steps, const StopOnSignal& stop,
                  bool quiet, const std::function<void(int64_t step)>& on_validate = {});

}  // namespace nextscale
