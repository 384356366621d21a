#include "nextscale/evaluate/samples.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string_view>
#include <system_error>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/data/picture.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;

bool is_picture_name(const fs::path& path) {
  static constexpr std::array<std::string_view, 11> kEndings = {".png",  ".jpg", ".jpeg", ".webp", ".bmp", ".tif",
                                                                ".tiff", ".ppm", ".pgm",  ".pnm",  ".gif"};
  std::string ending = path.extension().string();
  for (auto& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

struct Entries {
  std::vector<fs::path> pictures, folders;  // sorted
};

Entries entries_of(const fs::path& folder) {
  std::error_code code;
  fs::directory_iterator walk(folder, code);
  if (code) throw failure({.where = folder.string(), .what = "folder cannot be read", .got = code.message()});
  Entries entries;
  for (const auto& entry : walk) {
    if (entry.is_directory(code)) {
      entries.folders.push_back(entry.path());
    } else if (is_picture_name(entry.path())) {
      entries.pictures.push_back(entry.path());
    }
  }
  std::sort(entries.pictures.begin(), entries.pictures.end());
  std::sort(entries.folders.begin(), entries.folders.end());
  return entries;
}

/// Index of each class folder in the classifier's numbering.
std::vector<int64_t> folder_classes(const fs::path& folder, const std::vector<fs::path>& folders, int64_t classes,
                                    const std::vector<std::string>& class_names) {
  std::vector<int64_t> labels;
  const fs::path* unknown = nullptr;
  for (const auto& path : folders) {
    const auto found = std::find(class_names.begin(), class_names.end(), path.filename().string());
    if (found == class_names.end() && unknown == nullptr) unknown = &path;
    labels.push_back(found - class_names.begin());
  }
  if (unknown == nullptr) return labels;
  if (static_cast<int64_t>(folders.size()) != classes) {
    throw failure(
        {.where = folder.string(),
         .what = "class folders do not fit the classifier",
         .expected = std::to_string(classes) + " folders or its class names",
         .got = std::to_string(folders.size()) + " folders, among them '" + unknown->filename().string() + "'"});
  }
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i);
  return labels;
}

std::vector<Sample> in_class_folders(const fs::path& folder, const std::vector<fs::path>& folders, int64_t classes,
                                     const std::vector<std::string>& class_names) {
  const auto labels = folder_classes(folder, folders, classes, class_names);
  std::vector<Sample> samples;
  for (size_t i = 0; i < folders.size(); ++i) {
    const auto pictures = entries_of(folders[i]).pictures;
    if (pictures.empty()) throw failure({.where = folders[i].string(), .what = "no pictures in this class folder"});
    for (const auto& path : pictures) samples.push_back({path, labels[i]});
  }
  return samples;
}

at::Tensor read_sample(const fs::path& path, const ClassifierOptions& options) {
  const auto picture = read_picture(path, options.channels);  // (H, W, C) uint8
  if (picture.size(0) != options.side || picture.size(1) != options.side) {
    throw failure({path.string(), "has another size than the classifier's pictures",
                   shape_text(std::vector<int64_t>{options.side, options.side}),
                   shape_text(std::vector<int64_t>{picture.size(0), picture.size(1)})});
  }
  return picture.permute({2, 0, 1});
}

}  // namespace

std::optional<int64_t> class_in_name(const std::string& file_name) {
  constexpr std::string_view kMark = "_class";
  const auto at = file_name.rfind(kMark);
  const auto dot = file_name.rfind('.');
  if (at == std::string::npos || dot == std::string::npos || dot < at + kMark.size()) return std::nullopt;
  int64_t value = 0;
  const char* begin = file_name.data() + at + kMark.size();
  const char* end = file_name.data() + dot;
  const auto result = std::from_chars(begin, end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::vector<Sample> find_samples(const fs::path& folder, int64_t classes, const std::vector<std::string>& class_names) {
  const auto entries = entries_of(folder);
  std::vector<Sample> named, unnamed;
  for (const auto& path : entries.pictures) {
    const auto label = class_in_name(path.filename().string());
    if (!label) {
      unnamed.push_back({path, -1});
      continue;
    }
    if (*label < -1 || *label >= classes) {
      throw failure({path.string(), "names a class that the classifier does not know",
                     "at most " + std::to_string(classes - 1), std::to_string(*label)});
    }
    named.push_back({path, *label});
  }
  if (!named.empty()) return named;
  if (!unnamed.empty()) return unnamed;
  if (!entries.folders.empty()) return in_class_folders(folder, entries.folders, classes, class_names);
  throw failure({.where = folder.string(), .what = "no pictures in this folder"});
}

Judged judge_samples(Classifier& classifier, const std::vector<Sample>& samples, const JudgeSettings& settings,
                     const std::function<void(int64_t done)>& on_pictures) {
  if (samples.empty()) throw failure({.what = "no pictures to look at"});
  std::vector<at::Tensor> features, predicted;
  std::vector<int64_t> labels;
  for (size_t first = 0; first < samples.size(); first += static_cast<size_t>(settings.batch)) {
    const size_t end = std::min(samples.size(), first + static_cast<size_t>(settings.batch));
    std::vector<at::Tensor> pictures;
    for (size_t i = first; i < end; ++i) {
      pictures.push_back(read_sample(samples[i].path, classifier->options()));
      labels.push_back(samples[i].label);
    }
    const Judged judged = judge_pictures(classifier, to_network_range(at::stack(pictures)), settings);
    features.push_back(judged.features);
    predicted.push_back(judged.predicted);
    if (on_pictures) on_pictures(static_cast<int64_t>(end));
  }
  return {at::cat(features), at::cat(predicted), at::tensor(labels, at::kLong)};
}

}  // namespace nextscale
