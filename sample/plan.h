#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/core/Generator.h>

#include "nextscale/base/options.h"

namespace nextscale {

/// Which pictures are asked for. `labels`, `classes` and `random_labels` exclude each other.
struct ChoiceOptions {
  std::vector<int64_t> labels{};
  int64_t random_labels = 8;
  std::string classes{};
  int64_t per_class = 8;
  int64_t batch = 16;

  static constexpr auto table() {
    using O = ChoiceOptions;
    return std::tuple{
        option("labels", &O::labels, "one picture for each of these classes, as one batch; -1 = without a class"),
        option("random_labels", &O::random_labels,
               "so many pictures of random classes, as one batch; taken where neither labels nor classes are given",
               between(1, 1 << 20)),
        option("classes", &O::classes,
               "all pictures of one class after the other: numbers and ranges, e.g. 0-9, or all"),
        option("per_class", &O::per_class, "pictures of each of the classes; given alone, of all classes",
               between(1, 1 << 20)),
        option("batch", &O::batch, "pictures at a time with classes", between(1, 1 << 16)),
    };
  }
};

/// One call of the sampler.
struct SampleBatch {
  std::vector<int64_t> labels;  ///< -1 for none
  uint64_t seed = 0;
  at::Generator first_draws{};  ///< where the labels were drawn: the generator that drew them, which goes on

  int64_t count() const { return static_cast<int64_t>(labels.size()); }
  /// For sample_pictures, once. @param device where it draws; only the CPU's goes on where labels were drawn
  at::Generator generator(const c10::Device& device = c10::kCPU) const;
};

/// "0-9", "0,3,5-7", "-1", "all" -> numbers in the order given.
/// @param classes of the model; 0 = unconditional, which has -1 only
/// @throws Error usage for a text of another kind or a class that the model does not have
std::vector<int64_t> parse_classes(const std::string& text, int64_t classes);

/// Labels and random labels are one batch with `seed`, as the reference draws them: labels
/// first, from the same generator. Classes are one list, class after
/// class, cut into batches of `batch`; batch i has seed + i.
/// @param classes of the model
/// @throws Error usage naming the option and its range; more than a million pictures
std::vector<SampleBatch> plan_batches(const ChoiceOptions& choice, int64_t classes, uint64_t seed);

/// Positions (over all batches) of up to `count` pictures that show as many classes as there are, evenly: the first of
/// each class, or the first few where there are few classes.
std::vector<int64_t> pick_across_classes(const std::vector<SampleBatch>& plan, int64_t count);

}  // namespace nextscale
