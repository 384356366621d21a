#include <algorithm>

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/data/class_index.h"
#include "nextscale/data/stored_dataset.h"
#include "nextscale/io/idx.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostClasses = 1'000'000;  // a damaged label file must not make names without end

// Pictures lie in memory as they are in the file; picture() is a view.
class IdxDataset : public StoredDataset {
 public:
  IdxDataset(IdxImages images, std::vector<int64_t> labels, int64_t channels, std::string name)
      : images_(std::move(images)), labels_(std::move(labels)), channels_(channels), name_(std::move(name)) {}

  int64_t size() const override { return images_.count; }
  int64_t label(int64_t i) const override { return labels_.empty() ? 0 : labels_.at(static_cast<size_t>(i)); }
  at::Tensor picture(int64_t i) const override {
    auto* data = const_cast<std::byte*>(images_.picture(i).data());  // only read
    const auto view = at::from_blob(data, {images_.height, images_.width, images_.channels}, at::kByte);
    return with_channels(view, channels_);
  }
  std::string name(int64_t i) const override { return fmt::format("{}[{}]", name_, i); }
  std::string key(int64_t i) const override { return std::to_string(i); }
  PictureSize size_of(int64_t) const override { return {images_.height, images_.width}; }
  uint64_t bytes_of(int64_t) const override { return static_cast<uint64_t>(images_.picture_bytes()); }
  at::Tensor decoded(int64_t i, std::string&) const override { return picture(i); }

 private:
  IdxImages images_;
  std::vector<int64_t> labels_;
  int64_t channels_;
  std::string name_;
};

bool has_word(const fs::path& path, std::initializer_list<std::string_view> words) {
  const auto name = path.filename().string();
  return std::any_of(words.begin(), words.end(), [&](auto word) { return name.find(word) != std::string::npos; });
}

// x-images-idx3-ubyte.gz -> x-labels-idx1-ubyte.gz, or the same without .gz (and the other way round).
fs::path labels_beside(const fs::path& images) {
  auto name = images.filename().string();
  name.replace(name.rfind("images"), 6, "labels");
  name[name.rfind("idx") + 3] = '1';
  const auto same = images.parent_path() / name;
  const auto other = images.parent_path() / (name.ends_with(".gz") ? name.substr(0, name.size() - 3) : name + ".gz");
  return !fs::exists(same) && fs::exists(other) ? other : same;
}

std::vector<int64_t> read_labels(const fs::path& images, int64_t count) {
  const auto path = labels_beside(images);
  if (!fs::exists(path)) {
    throw failure({.where = path.string(),
                   .what = "labels are missing",
                   .expected = "them beside " + images.filename().string() + ", or --unconditional",
                   .got = {}});
  }
  auto labels = read_idx_labels(path);
  if (static_cast<int64_t>(labels.size()) != count) {
    throw failure({.where = path.string(),
                   .what = "number of labels differs",
                   .expected = fmt::format("{} as in {}", count, images.filename().string()),
                   .got = std::to_string(labels.size())});
  }
  return labels;
}

void check_labels(const std::vector<int64_t>& labels, int64_t classes, const fs::path& images) {
  const auto worst = std::max_element(labels.begin(), labels.end());
  if (worst == labels.end() || *worst < classes) return;
  throw failure({.where = labels_beside(images).string(),
                 .what = fmt::format("label {} is outside the classes", worst - labels.begin()),
                 .expected = fmt::format("0 to {}", classes - 1),
                 .got = std::to_string(*worst)});
}

// The same file plain and compressed counts once.
std::vector<fs::path> without_twins(std::vector<fs::path> files) {
  std::erase_if(files, [&](const fs::path& file) {
    return file.extension() == ".gz" &&
           std::find(files.begin(), files.end(), fs::path(file).replace_extension()) != files.end();
  });
  return files;
}

fs::path only(const std::vector<fs::path>& files, const std::string& what) {
  if (files.size() == 1) return files[0];
  std::vector<std::string> names;
  for (const auto& file : files) names.push_back(file.filename().string());
  throw failure({.where = files[0].parent_path().string(),
                 .what = "more than one IDX file of " + what,
                 .expected = "one",
                 .got = short_list(names)});
}

}  // namespace

bool is_idx_images_name(const std::string& name) {
  std::string_view stem = name;
  if (stem.ends_with(".gz")) stem.remove_suffix(3);
  constexpr std::string_view kEnd = "idx0-ubyte";
  if (stem.size() < kEnd.size() || !stem.ends_with("-ubyte")) return false;
  const auto kind = stem.substr(stem.size() - kEnd.size(), 4);
  return kind.starts_with("idx") && kind[3] >= '0' && kind[3] <= '9' && stem.find("images") != std::string_view::npos;
}

StoredParts open_idx_parts(const std::vector<fs::path>& given, const DataOptions& options) {
  const auto files = without_twins(given);
  std::vector<fs::path> train, held_out;
  for (const auto& file : files) {
    const bool out = !has_word(file, {"train"}) && has_word(file, {"t10k", "test", "val"});
    (out && files.size() > 1 ? held_out : train).push_back(file);
  }
  if (train.empty()) {
    throw failure({.where = files[0].parent_path().string(), .what = "no IDX file with \"train\" in its name"});
  }
  StoredParts parts;
  if (!options.unconditional && !options.class_index.empty()) {
    parts.class_names = read_class_index(options.class_index).names;
  }
  int64_t classes = static_cast<int64_t>(parts.class_names.size());
  int64_t channels = options.channels;
  const auto open = [&](const fs::path& file) -> std::shared_ptr<const StoredDataset> {
    auto images = read_idx_images(file);
    if (images.count == 0) throw failure({.where = file.string(), .what = "no pictures inside"});
    if (channels == 0) channels = images.channels;
    std::vector<int64_t> labels;
    if (!options.unconditional) {
      labels = read_labels(file, images.count);
      if (classes == 0) classes = std::min(*std::max_element(labels.begin(), labels.end()) + 1, kMostClasses);
      check_labels(labels, classes, file);
    }
    return std::make_shared<IdxDataset>(std::move(images), std::move(labels), channels, file.filename().string());
  };
  parts.train = open(only(train, "training pictures"));
  if (!held_out.empty()) parts.val = open(only(held_out, "held-out pictures"));
  for (int64_t c = static_cast<int64_t>(parts.class_names.size()); c < classes; ++c) {
    parts.class_names.push_back(std::to_string(c));
  }
  parts.channels = channels;
  return parts;
}

}  // namespace nextscale
