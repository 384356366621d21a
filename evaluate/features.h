#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "nextscale/data/dataset.h"
#include "nextscale/networks/classifier.h"

namespace nextscale {

/// Where and how the judge looks.
struct JudgeSettings {
  c10::Device device = c10::kCPU;
  c10::ScalarType dtype = c10::kFloat;  ///< of the convolutions; features come out in float32
  int64_t batch = 250;
};

/// What the classifier says of N pictures, on the CPU.
struct Judged {
  at::Tensor features;   ///< (N, feature_width) float32
  at::Tensor predicted;  ///< (N) int64, the likeliest class
  at::Tensor labels;     ///< (N) int64, of a data set; undefined for bare pictures
  /// Share of pictures whose label is the predicted class. @throws Error failure without labels or pictures
  double accuracy() const;
};

/// @param pictures (N, channels, side, side) in [-1, 1] on any device
/// @throws Error failure if the pictures are not what the classifier was made for
Judged judge_pictures(Classifier& classifier, const at::Tensor& pictures, const JudgeSettings& settings);

/// Pictures of a data set in order, loaded batch by batch with validation's crop.
/// @param on_pictures told how many have been seen, for progress
/// @throws Error failure of the picture that could not be read, or as judge_pictures
Judged judge_dataset(Classifier& classifier, const Dataset& dataset, const DataParts& parts, const DataOptions& options,
                     const JudgeSettings& settings, const std::function<void(int64_t done)>& on_pictures = {});

/// Chosen pictures of a data set as a data set of their own.
/// @param indices positions in `dataset`
std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices);

/// `count` different positions below `size` in random order, all of them where there are fewer; the seed alone decides.
/// Sets that are sorted by class need this wherever only a part is looked at.
std::vector<int64_t> chosen_positions(int64_t size, int64_t count, uint64_t seed);

}  // namespace nextscale
