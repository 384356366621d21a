#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/data/class_index.h"
#include "nextscale/data/file_store.h"
#include "nextscale/data/stored_dataset.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;

// One part inside a store: everything below `prefix` ("" or "train/").
struct View {
  std::shared_ptr<const FileStore> store;
  std::string prefix;

  std::string where() const { return prefix.empty() ? store->where() : store->where() + "/" + prefix; }
  View below(const std::string& folder) const { return {store, prefix + folder + "/"}; }
  std::string_view inside(size_t i) const { return std::string_view(store->pictures()[i].name).substr(prefix.size()); }

  /// Folders right below, sorted.
  std::vector<std::string> folders() const {
    std::vector<std::string> result;
    for (const auto& folder : store->folders()) {
      if (!folder.starts_with(prefix) || folder.size() == prefix.size()) continue;
      const auto rest = folder.substr(prefix.size());
      if (rest.find('/') == std::string::npos) result.push_back(rest);
    }
    return result;
  }
  std::vector<size_t> pictures() const {
    std::vector<size_t> result;
    for (size_t i = 0; i < store->pictures().size(); ++i) {
      if (store->pictures()[i].name.starts_with(prefix)) result.push_back(i);
    }
    return result;
  }
  /// The first of these folders that is there.
  const char* find_folder(std::initializer_list<const char*> names) const {
    for (const auto* name : names) {
      if (store->folders().count(prefix + name)) return name;
    }
    return nullptr;
  }
};

struct Item {
  size_t file;
  int64_t label;
};

class FileDataset : public StoredDataset {
 public:
  FileDataset(View view, std::vector<Item> items, int64_t channels, Exif exif)
      : view_(std::move(view)), items_(std::move(items)), channels_(channels), exif_(exif) {}

  int64_t size() const override { return static_cast<int64_t>(items_.size()); }
  int64_t label(int64_t i) const override { return item(i).label; }
  at::Tensor picture(int64_t i) const override {
    const auto content = view_.store->content(item(i).file);
    return decode_picture(content.bytes, channels_, where(i), exif_);
  }
  at::Tensor decoded(int64_t i, std::string& fault) const override {
    const auto content = view_.store->content(item(i).file);
    try {
      return decode_picture(content.bytes, channels_, where(i), exif_);
    } catch (const Error& error) {
      fault = error.what();
      return {};
    }
  }
  std::string name(int64_t i) const override { return view_.store->shown(item(i).file); }
  std::string key(int64_t i) const override { return std::string(view_.inside(item(i).file)); }
  PictureSize size_of(int64_t i) const override {
    return picture_size(view_.store->content(item(i).file).bytes, where(i), exif_);
  }
  uint64_t bytes_of(int64_t i) const override { return view_.store->pictures()[item(i).file].bytes; }

 private:
  const Item& item(int64_t i) const { return items_.at(static_cast<size_t>(i)); }
  std::string where(int64_t i) const { return view_.store->where() + "/" + view_.store->pictures()[item(i).file].name; }

  View view_;
  std::vector<Item> items_;
  int64_t channels_;
  Exif exif_;
};

std::string_view first_folder(std::string_view name) { return name.substr(0, std::min(name.find('/'), name.size())); }

// The reference's order: class, then folder as one string, then file.
auto order_key(std::string_view name) {
  const auto slash = name.rfind('/');
  const bool loose = slash == std::string_view::npos;
  return std::tuple(loose ? std::string_view() : first_folder(name), loose ? std::string_view() : name.substr(0, slash),
                    loose ? name : name.substr(slash + 1));
}

// @param index nullptr: no classes
std::shared_ptr<const StoredDataset> open_part(const View& view, const ClassIndex* index, int64_t channels, Exif exif) {
  auto files = view.pictures();
  std::sort(files.begin(), files.end(),
            [&](size_t a, size_t b) { return order_key(view.inside(a)) < order_key(view.inside(b)); });
  std::vector<Item> items;
  std::vector<std::string> empty = index ? view.folders() : std::vector<std::string>();
  for (const auto file : files) {
    const auto name = view.inside(file);
    if (!index) {
      items.push_back({file, 0});
      continue;
    }
    if (name.find('/') == std::string_view::npos) continue;  // beside the class folders
    const std::string folder(first_folder(name));
    const auto found = index->folders.find(folder);
    if (found == index->folders.end()) {
      throw failure({.where = view.where(), .what = "folder " + folder + " is no class of --class-index"});
    }
    items.push_back({file, found->second});
    std::erase(empty, folder);
  }
  if (!empty.empty()) {
    throw failure(
        {.where = view.where(), .what = "class folders without pictures", .expected = {}, .got = short_list(empty)});
  }
  if (items.empty()) throw failure({.where = view.where(), .what = "no pictures inside"});
  return std::make_shared<FileDataset>(view, std::move(items), channels, exif);
}

void check_same_classes(const View& train, const View& val) {
  const auto a = train.folders(), b = val.folders();
  std::vector<std::string> only_a, only_b;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(only_a));
  std::set_difference(b.begin(), b.end(), a.begin(), a.end(), std::back_inserter(only_b));
  if (only_a.empty() && only_b.empty()) return;
  std::string differences;
  if (!only_a.empty()) differences += "only in training: " + short_list(only_a);
  if (!only_b.empty()) differences += (only_a.empty() ? "only held out: " : "; only held out: ") + short_list(only_b);
  throw failure({.where = train.store->where(),
                 .what = "classes differ between the parts",
                 .expected = "the same folders in both, or --class-index",
                 .got = differences});
}

StoredParts open_views(const View& train, const View* val, const DataOptions& options) {
  StoredParts parts;
  parts.channels = options.channels == 0 ? 3 : options.channels;
  const auto folders = train.folders();
  ClassIndex index;
  const bool classes = !options.unconditional && !folders.empty();
  if (classes && !options.class_index.empty()) {
    index = read_class_index(options.class_index);
  } else if (!options.unconditional) {
    if (val) check_same_classes(train, *val);
    index = index_of_folders(folders);
  }
  const auto exif = options.apply_exif ? Exif::applied : Exif::ignored;
  parts.train = open_part(train, classes ? &index : nullptr, parts.channels, exif);
  if (val) parts.val = open_part(*val, classes ? &index : nullptr, parts.channels, exif);
  if (classes) parts.class_names = index.names;
  return parts;
}

StoredParts open_root(View root, bool archive, const DataOptions& options) {
  // Archives often hold one folder with everything in it.
  if (const auto folders = root.folders(); archive && folders.size() == 1 && !root.find_folder({"train"})) {
    const auto below = root.below(folders[0]);
    if (below.find_folder({"train"}) || root.find_folder({"val", "test"})) root = below;
  }
  if (!root.find_folder({"train"})) {
    if (const auto* part = root.find_folder({"val", "test"}); part && root.below(part).folders().size() > 1) {
      throw failure({.where = root.where(), .what = fmt::format("folder {} without a folder train beside it", part)});
    }
    return open_views(root, nullptr, options);
  }
  const auto train = root.below("train");
  const auto* held_out = root.find_folder({"val", "test"});
  if (!held_out) return open_views(train, nullptr, options);
  const auto val = root.below(held_out);
  return open_views(train, &val, options);
}

// Inside an archive of one part: x/… or train/x/… or val/x/…
View part_in_archive(const fs::path& file) {
  const View root{open_archive(file), ""};
  const auto* part = root.find_folder({"train", "val", "test"});
  return part && root.folders().size() == 1 ? root.below(part) : root;
}

}  // namespace

StoredParts open_folder_parts(const fs::path& folder, const DataOptions& options) {
  return open_root({open_folder(folder), ""}, false, options);
}

StoredParts open_archive_parts(const std::vector<fs::path>& files, const DataOptions& options) {
  if (files.size() == 1) return open_root({open_archive(files[0]), ""}, true, options);
  const auto named = [&](const char* word) {
    std::vector<fs::path> found;
    for (const auto& file : files) {
      if (file.filename().string().find(word) != std::string::npos) found.push_back(file);
    }
    return found;
  };
  const auto train = named("train");
  auto held_out = named("val");
  if (held_out.empty()) held_out = named("test");
  if (train.size() != 1 || held_out.size() > 1) {
    std::vector<std::string> names;
    for (const auto& file : files) names.push_back(file.filename().string());
    throw failure({.where = files[0].parent_path().string(),
                   .what = "unclear which tar file is for what",
                   .expected = "one with \"train\" in its name, at most one with \"val\" or \"test\"",
                   .got = short_list(names)});
  }
  const auto view = part_in_archive(train[0]);
  if (held_out.empty()) return open_views(view, nullptr, options);
  const auto val = part_in_archive(held_out[0]);
  return open_views(view, &val, options);
}

}  // namespace nextscale
