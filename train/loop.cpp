#include "nextscale/train/loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/atomic_file.h"
#include "nextscale/io/disk.h"
#include "nextscale/train/checkpoint_state.h"

namespace nextscale {
namespace {

using Clock = std::chrono::steady_clock;
using Numbers = std::map<std::string, double>;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// 0 = a tenth of the schedule
int64_t cadence(int64_t every, int64_t steps) { return every > 0 ? every : std::max<int64_t>(1, (steps + 9) / 10); }

/// " (scales 1x1, 3x3)": those whose loss is not finite, where there are losses of scales ("loss_1x1").
std::string scales_text(const Numbers& numbers) {
  const std::string prefix = "loss_";
  std::vector<std::string> scales;
  for (const auto& [name, value] : numbers) {
    if (name.starts_with(prefix) && !std::isfinite(value)) scales.push_back(name.substr(prefix.size()));
  }
  return scales.empty() ? "" : fmt::format(" (scales {})", fmt::join(scales, ", "));
}

uint64_t folder_bytes(const std::filesystem::path& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

std::string numbers_text(const Numbers& numbers) {
  std::string text;
  for (const auto& [name, value] : numbers) text += fmt::format("{}{} {:.4g}", text.empty() ? "" : ", ", name, value);
  return text;
}

constexpr const char* kReplaced = "replaced_pictures";
constexpr size_t kFaultsShown = 10;  // on the terminal; log.txt has all

/// What state.json says. Every way in which a checkpoint can be damaged ends in one message that names its folder.
CheckpointState load_checkpoint(const CheckpointFolder& checkpoint, const std::string& kind, Trainee& trainee) {
  try {
    const auto path = checkpoint.path / "state.json";
    auto state = parse_checkpoint_state(read_text(path), "state.json");
    if (state.kind != kind) {
      throw failure({"state.json", "holds another kind", "\"" + kind + "\"", "\"" + state.kind + "\""});
    }
    if (state.step != checkpoint.step) {
      throw failure(
          {"state.json", "belongs to another step", std::to_string(checkpoint.step), std::to_string(state.step)});
    }
    trainee.load(checkpoint.path);
    return state;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw failure(
        {.where = checkpoint.path.string(),
         .what = "the newest checkpoint cannot be read (without this folder the run goes on from the one before)",
         .got = text.substr(0, text.find('\n'))});
  }
}

/// One call of run_loop.
class Drive {
 public:
  Drive(Run& run, Trainee& trainee, const LoopOptions& options, int64_t steps, const StopOnSignal& stop, bool quiet,
        const std::function<void(int64_t)>& on_validate)
      : run_(run),
        trainee_(trainee),
        options_(options),
        steps_(steps),
        stop_(stop),
        on_validate_(on_validate),
        save_every_(cadence(options.save_every, steps)),
        validate_every_(cadence(options.validate_every, steps)),
        report_every_(std::clamp<int64_t>(steps / 100, 1, 10)),
        snapshot_step_(std::max<int64_t>(1, steps / 16)),
        progress_(run.kind(), steps * options.batch, trainee.unit(), quiet) {}

  ExitCode all() {
    resume();
    require_disk();
    const int64_t end = options_.max_steps > 0 ? std::min(steps_, done_ + options_.max_steps) : steps_;
    while (done_ < end) {
      if (wants_to_end() && saved_ == done_) return end_early();
      // A step that will be saved is looked at: a broken one must not become the newest checkpoint.
      const int64_t after = done_ + 1;
      const bool saving = wants_to_end() || after == end || after % save_every_ == 0;
      const bool snapshot = after == snapshot_step_;
      const bool report = saving || snapshot || after % report_every_ == 0;
      take_step(report);
      if (snapshot) trainee_.save_snapshot(run_.snapshots() / "ema_1_16.safetensors");
      const bool ending = report && wants_to_end();
      if (saving || ending) save();
      if (ending && (stop_.requested() || done_ < steps_)) return end_early();
      if (done_ % validate_every_ == 0 && done_ < steps_) validate();
    }
    return done_ < steps_ || stop_.requested() ? end_early() : finish();
  }

 private:
  void resume() {
    const auto checkpoint = newest_checkpoint(run_.checkpoints());
    if (checkpoint) {
      const auto state = load_checkpoint(*checkpoint, run_.kind(), trainee_);
      done_ = state.step;
      replaced_ = state.replaced;
      if (done_ > steps_) {
        throw failure({checkpoint->path.string(), "lies past the end of the schedule",
                       fmt::format("at most step {}", steps_), fmt::format("step {}", done_)});
      }
      say(fmt::format("goes on at step {} of {}", done_, steps_));
      if (!run_.taken_over().empty()) say(fmt::format("takes over {}", fmt::join(run_.taken_over(), ", ")));
    } else {
      run_.log_text(fmt::format("begins: {} steps of {} {}", steps_, options_.batch, trainee_.unit()));
    }
    saved_ = done_;
    progress_.start_at(done_ * options_.batch);
  }

  /// While a checkpoint is written, those that will be kept are still there: one more than `keep`.
  void require_disk() const {
    if (done_ == steps_) return;
    const auto there = list_checkpoints(run_.checkpoints());
    uint64_t bytes = trainee_.checkpoint_bytes();
    if (bytes == 0 && !there.empty()) bytes = folder_bytes(there.back().path);
    const int64_t to_come = (steps_ - done_ + save_every_ - 1) / save_every_;
    const int64_t more = options_.keep > 0 ? options_.keep + 1 - static_cast<int64_t>(there.size()) : to_come;
    require_free_space(run_.directory(), bytes * static_cast<uint64_t>(std::clamp<int64_t>(more, 1, to_come)));
  }

  void take_step(bool report) {
    const auto begin = Clock::now();
    StepReport numbers = trainee_.step(done_, report);
    ++done_;
    replaced_ += numbers.replaced;
    ++taken_;
    ++steps_since_report_;
    seconds_since_report_ += seconds_since(begin);
    if (!report) {
      progress_.update(done_ * options_.batch);
      return;
    }
    require_finite("loss", numbers.loss, numbers);
    require_finite("gradient norm", numbers.grad_norm, numbers);
    for (const auto& [name, value] : numbers.more) require_finite(name, value, numbers);
    loss_ = numbers.loss;
    const double pictures = static_cast<double>(std::exchange(steps_since_report_, 0) * options_.batch);
    const double seconds = std::max(std::exchange(seconds_since_report_, 0.0), 1e-9);
    nlohmann::json line = numbers.more;
    line.update({{"step", done_},
                 {"loss", numbers.loss},
                 {"lr", numbers.lr},
                 {"grad_norm", numbers.grad_norm},
                 {"pictures_per_s", pictures / seconds}});
    if (replaced_ > 0) line[kReplaced] = replaced_;
    run_.log_metrics(line);
    for (const auto& note : numbers.notes) say(fmt::format("step {}: warning: {}", done_, note));
    say_faults();
    progress_.update(done_ * options_.batch, fmt::format("loss {:.4g}", numbers.loss));
  }

  void require_finite(const std::string& name, double value, const StepReport& numbers) const {
    if (std::isfinite(value)) return;
    throw failure(
        {.where = fmt::format("{}: step {}", run_.directory().string(), done_),
         .what = fmt::format("the {} is not finite{}, learning rate {:.3g}; the last checkpoint is that of step "
                             "{}; a lower --lr or --clip, a longer --warmup or --dtype float32 may help",
                             name, scales_text(numbers.more), numbers.lr, saved_),
         .got = fmt::format("{}", value)});
  }

  void save() {
    if (saved_ == done_) return;
    CheckpointWriter checkpoint(run_.checkpoints(), done_, run_.files());
    trainee_.save(checkpoint);
    nlohmann::json state = {{"step", done_}, {"steps", steps_}, {"kind", run_.kind()}, {"versions", versions_text()}};
    if (replaced_ > 0) state[kReplaced] = replaced_;
    write_text_atomically(checkpoint.file("state.json"), state.dump(2) + "\n", run_.files());
    checkpoint.commit();
    saved_ = done_;
    keep_newest_checkpoints(run_.checkpoints(), options_.keep, run_.files());
    run_.log_text(fmt::format("step {}: saved", done_));
  }

  void validate() {
    validation_ = trainee_.validate(done_);
    say_faults();
    run_.log_metrics({{"step", done_}, {"validation", validation_}});
    say(fmt::format("step {}: validation {}", done_, numbers_text(validation_)));
    if (on_validate_) on_validate_(done_);
  }

  /// At least one step of each call is taken, so that a limit shorter than the start-up still gets somewhere.
  bool out_of_time() const {
    return options_.max_minutes > 0 && taken_ > 0 && seconds_since(began_) >= 60 * options_.max_minutes;
  }
  bool wants_to_end() const { return stop_.requested() || out_of_time(); }

  ExitCode end_early() {
    progress_.finish();
    say(fmt::format("stopped early at step {} of {}; the same command goes on", done_, steps_));
    return stop_.exit_code();
  }

  ExitCode finish() {
    validate();
    nlohmann::json result = {{"step", done_}, {"validation", validation_}};
    if (loss_) result["loss"] = *loss_;
    if (replaced_ > 0) result[kReplaced] = replaced_;
    run_.mark_finished(result);
    progress_.finish();
    run_.log_text(fmt::format("finished: {} steps", done_));
    return ExitCode::done;
  }

  void say_faults() {
    for (const auto& fault : trainee_.data_faults()) {
      if (!faults_.insert(fault).second) continue;
      const auto text = fault + "; another picture stands in for it (--skip-bad)";
      run_.log_text(text);
      if (faults_.size() <= kFaultsShown) progress_.note(text);
      if (faults_.size() == kFaultsShown)
        progress_.note("further pictures that cannot be decoded are named in log.txt");
    }
  }

  void say(const std::string& text) {
    run_.log_text(text);
    progress_.note(text);
  }

  Run& run_;
  Trainee& trainee_;
  const LoopOptions& options_;
  const int64_t steps_;
  const StopOnSignal& stop_;
  const std::function<void(int64_t)>& on_validate_;
  const int64_t save_every_, validate_every_, report_every_, snapshot_step_;
  Progress progress_;
  const Clock::time_point began_ = Clock::now();

  int64_t done_ = 0;      // finished steps of the schedule
  int64_t taken_ = 0;     // of these in this call
  int64_t saved_ = 0;     // the newest checkpoint's
  int64_t replaced_ = 0;  // pictures, in these steps
  std::set<std::string> faults_;
  int64_t steps_since_report_ = 0;
  double seconds_since_report_ = 0;
  std::optional<double> loss_;
  Numbers validation_;
};

}  // namespace

ExitCode run_loop(Run& run, Trainee& trainee, const LoopOptions& options, int64_t steps, const StopOnSignal& stop,
                  bool quiet, const std::function<void(int64_t step)>& on_validate) {
  if (steps < 1) throw usage({"--steps", "out of range", "at least 1", std::to_string(steps)});
  return Drive(run, trainee, options, steps, stop, quiet, on_validate).all();
}

}  // namespace nextscale
