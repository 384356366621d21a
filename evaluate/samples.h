#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/evaluate/features.h"
#include "nextscale/networks/classifier.h"

namespace nextscale {

/// A picture to be judged and the class that was asked for, -1 where nothing says it.
struct Sample {
  std::filesystem::path path;
  int64_t label = -1;
};

/// Class of a name as `nextscale sample` gives them: 7 of "000000_class007.png"; nothing for other names, -1 for the
/// label-free class.
std::optional<int64_t> class_in_name(const std::string& file_name);

/// Pictures below a folder, sorted by name:
/// - files named "…_classNNN.EXT": these alone, so that a grid kept beside them is not taken for a sample;
/// - else picture files right in it: their classes are unknown;
/// - else class folders, named as the classifier's classes or, where they are as many, sorted as its classes are.
/// @throws Error failure naming the folder or file: not there, no pictures, a class that the classifier does not know
std::vector<Sample> find_samples(const std::filesystem::path& folder, int64_t classes,
                                 const std::vector<std::string>& class_names);

/// @throws Error failure naming the picture: unreadable, or not of the classifier's side
Judged judge_samples(Classifier& classifier, const std::vector<Sample>& samples, const JudgeSettings& settings,
                     const std::function<void(int64_t done)>& on_pictures = {});

}  // namespace nextscale
