#include "nextscale/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <xxhash.h>

#include "nextscale/base/error.h"
#include "nextscale/data/file_store.h"
#include "nextscale/data/stored_dataset.h"
#include "nextscale/io/archive.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLooks = 32;  // pictures whose headers are read to see what sizes there are

class Subset : public StoredDataset {
 public:
  Subset(std::shared_ptr<const StoredDataset> all, std::vector<int64_t> chosen)
      : all_(std::move(all)), chosen_(std::move(chosen)) {}
  int64_t size() const override { return static_cast<int64_t>(chosen_.size()); }
  int64_t label(int64_t i) const override { return all_->label(at(i)); }
  at::Tensor picture(int64_t i) const override { return all_->picture(at(i)); }
  std::string name(int64_t i) const override { return all_->name(at(i)); }
  std::string key(int64_t i) const override { return all_->key(at(i)); }
  PictureSize size_of(int64_t i) const override { return all_->size_of(at(i)); }
  uint64_t bytes_of(int64_t i) const override { return all_->bytes_of(at(i)); }
  at::Tensor decoded(int64_t i, std::string& fault) const override { return all_->decoded(at(i), fault); }

 private:
  int64_t at(int64_t i) const { return chosen_.at(static_cast<size_t>(i)); }
  std::shared_ptr<const StoredDataset> all_;
  std::vector<int64_t> chosen_;
};

StoredParts open_stored(const DataOptions& options) {
  auto path = fs::path(options.data).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a/b/
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) throw failure({.where = path.string(), .what = "no such file or folder"});
  const auto name = path.filename().string();
  if (!fs::is_directory(status)) {
    if (is_idx_images_name(name)) return open_idx_parts({path}, options);
    if (is_archive_name(path)) return open_archive_parts({path}, options);
    throw failure(
        {.where = path.string(),
         .what = "no data set",
         .expected = "a folder, a tar file (.tar, .tar.gz, .tgz) or an IDX file (...images...idx3-ubyte[.gz])",
         .got = {}});
  }
  std::vector<fs::path> idx, archives;
  bool parts_as_folders = false;
  try {
    for (const auto& entry : fs::directory_iterator(path)) {
      const auto file = entry.path().filename().string();
      if (entry.is_directory(error)) {
        parts_as_folders |= file == "train";
      } else if (is_idx_images_name(file)) {
        idx.push_back(entry.path());
      } else if (is_archive_name(file)) {
        archives.push_back(entry.path());
      }
    }
  } catch (const fs::filesystem_error& e) {
    throw failure({.where = path.string(), .what = "folder cannot be read: " + e.code().message()});
  }
  std::sort(idx.begin(), idx.end());
  std::sort(archives.begin(), archives.end());
  if (!idx.empty()) return open_idx_parts(idx, options);
  if (!archives.empty() && !parts_as_folders) return open_archive_parts(archives, options);
  return open_folder_parts(path, options);
}

// A share by a hash of the key: the same pictures wherever the data lies and whatever is added to it. At least one
// where a share is asked for, so that there is something to validate on.
void hold_out_share(StoredParts& parts, double share) {
  std::vector<int64_t> train, val;
  std::pair<double, int64_t> lowest{2.0, -1};
  const auto n = parts.train->size();
  for (int64_t i = 0; i < n; ++i) {
    const auto key = parts.train->key(i);
    const double place = std::ldexp(static_cast<double>(XXH3_64bits(key.data(), key.size())), -64);
    lowest = std::min(lowest, {place, i});
    (place < share ? val : train).push_back(i);
  }
  if (share > 0 && val.empty() && n > 1) {
    val.push_back(lowest.second);
    train.erase(train.begin() + lowest.second);
  }
  parts.val = subset(parts.train, std::move(val));
  parts.train = subset(parts.train, std::move(train));
  if (parts.train->size() == 0) {
    throw failure({.where = "--val-share", .what = "leaves no pictures for training", .expected = {}, .got = {}});
  }
}

// Sizes of some pictures of both parts, spread evenly.
struct Looks {
  PictureSize first;
  std::string first_name, other_name;  // other: one of another size, if any
  PictureSize other;

  Looks(const StoredDataset& train, const StoredDataset& val) : first(train.size_of(0)), first_name(train.name(0)) {
    for (const auto* part : {&train, &val}) {
      const auto n = part->size();
      for (int64_t k = 0; k < std::min(n, kLooks); ++k) {
        const int64_t i = k * n / std::min(n, kLooks);
        const auto size = part->size_of(i);
        if (size == first || !other_name.empty()) continue;
        other = size;
        other_name = part->name(i);
      }
    }
  }
  bool all_are(int64_t side) const { return other_name.empty() && first == PictureSize{side, side}; }
};

std::string text(const PictureSize& size) { return fmt::format("{} x {}", size.width, size.height); }

int64_t decide_side(const Looks& looks, const DataOptions& options) {
  if (options.side > 0) return options.side;
  if (!looks.other_name.empty()) {
    throw usage(
        {.where = "--side",
         .what = "must be given, as the pictures differ in size",
         .expected = {},
         .got = fmt::format("{} {}, {} {}", looks.first_name, text(looks.first), looks.other_name, text(looks.other))});
  }
  if (looks.first.height != looks.first.width) {
    throw usage({.where = "--side",
                 .what = "must be given, as the pictures are not square",
                 .expected = {},
                 .got = fmt::format("{} {}", looks.first_name, text(looks.first))});
  }
  return looks.first.width;
}

std::string fingerprint_of(const StoredParts& parts) {
  auto* state = XXH3_createState();
  XXH3_128bits_reset(state);
  const auto add_number = [&](uint64_t number) { XXH3_128bits_update(state, &number, sizeof(number)); };
  const auto add_text = [&](const std::string& word) {
    add_number(word.size());
    XXH3_128bits_update(state, word.data(), word.size());
  };
  for (const auto& name : parts.class_names) add_text(name);
  for (const auto* part : {parts.train.get(), parts.val.get()}) {
    add_number(static_cast<uint64_t>(part->size()));
    for (int64_t i = 0; i < part->size(); ++i) {
      add_text(part->key(i));
      add_number(static_cast<uint64_t>(part->label(i)));
      add_number(part->bytes_of(i));
    }
  }
  const auto hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::shared_ptr<const StoredDataset> subset(std::shared_ptr<const StoredDataset> all, std::vector<int64_t> chosen) {
  return std::make_shared<Subset>(std::move(all), std::move(chosen));
}

DataParts open_data(const DataOptions& options) {
  validate_options(options);
  if (options.data.empty()) throw usage({.where = "--data", .what = "is missing"});
  if (options.channels == 2)
    throw usage({.where = "--channels", .what = "out of range", .expected = "0, 1 or 3", .got = "2"});
  auto stored = open_stored(options);
  if (!stored.val) hold_out_share(stored, options.val_share);
  if (options.skip_bad) {  // each part for itself: no held-out picture may slip into training
    stored.train = skipping_bad(stored.train);
    stored.val = skipping_bad(stored.val);
  }

  const Looks looks(*stored.train, *stored.val);
  DataParts parts;
  parts.side = decide_side(looks, options);
  parts.resize =
      options.crop == "random" || options.crop == "center" || (options.crop == "auto" && !looks.all_are(parts.side));
  if (!parts.resize && !looks.all_are(parts.side)) {
    const bool first = looks.first != PictureSize{parts.side, parts.side};
    throw failure({.where = first ? looks.first_name : looks.other_name,
                   .what = "size differs (--crop none takes pictures as they are)",
                   .expected = text({parts.side, parts.side}),
                   .got = text(first ? looks.first : looks.other)});
  }
  parts.channels = stored.channels;
  parts.class_names = stored.class_names;
  parts.fingerprint = fingerprint_of(stored);
  parts.train = stored.train;
  parts.val = stored.val;
  return parts;
}

}  // namespace nextscale
