#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "nextscale/base/options.h"
#include "nextscale/data/dataset.h"
#include "nextscale/data/loader.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/train/loop.h"
#include "nextscale/train/optimizer.h"
#include "nextscale/train/schedule.h"

namespace nextscale {

struct ClassifierTrainingOptions {
  double label_smoothing = 0.0;
  int64_t shift = 0;
  int64_t quick_validation = 1000;

  static constexpr auto table() {
    using O = ClassifierTrainingOptions;
    return std::tuple{
        option("label_smoothing", &O::label_smoothing, "share of the target that goes to all classes alike",
               between(0.0, 0.9)),
        option("shift", &O::shift, "training pictures are moved by up to so many pixels; edges are repeated",
               between(0, 64)),
        option("quick_validation", &O::quick_validation,
               "held-out pictures that validations before the last one look at; the last looks at all", at_least(1)),
    };
  }
};

/// Pictures moved by up to `shift` pixels each way, every one by its own draw; what comes in repeats the edge.
/// @param pictures (B, C, H, W)
at::Tensor shifted(const at::Tensor& pictures, int64_t shift, at::Generator& generator);

struct ClassifierTrainerSettings {
  ClassifierTrainingOptions training;
  ScheduleOptions schedule;
  int64_t batch = 64;
  int64_t steps = 1;
  uint64_t seed = 0;
  c10::Device device = c10::kCPU;
  c10::ScalarType dtype = c10::kFloat;  ///< of the convolutions in training; validation is float32
};

/// Trains the judge: cross-entropy, AdamW, rates over the run. Pictures and shifts of a step depend on seed and step
/// alone.
class ClassifierTrainer : public Trainee {
 public:
  /// @throws Error failure if the data have no classes, or not the classifier's side, channels and number of classes
  ClassifierTrainer(Classifier classifier, DataParts parts, DataOptions data, ClassifierTrainerSettings settings);

  StepReport step(int64_t step, bool report) override;
  /// "accuracy" (share) and "loss" on the held-out part.
  std::map<std::string, double> validate(int64_t step) override;
  void save(const CheckpointWriter& checkpoint) override;
  void load(const std::filesystem::path& checkpoint) override;
  void save_snapshot(const std::filesystem::path& path) override;
  std::vector<std::string> data_faults() const override;
  uint64_t checkpoint_bytes() const override;

 private:
  Classifier classifier_;
  DataParts parts_;
  DataOptions data_;
  ClassifierTrainerSettings settings_;
  Loader loader_;
  AdamW optimizer_;
};

}  // namespace nextscale
