#include "nextscale/data/file_store.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include <sys/stat.h>

#include "nextscale/base/error.h"
#include "nextscale/io/archive.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

using Identity = std::pair<dev_t, ino_t>;

// Walks a folder tree. Real folders are a tree and end by themselves. A link is followed unless it leads to a folder
// that is being walked; below a followed link each folder is entered once, so that links among links end too.
class FolderStore : public FileStore {
 public:
  explicit FolderStore(const std::filesystem::path& root) : FileStore(root.string(), ""), root_(root) {
    walk(root, "");
    open_.clear();
  }
  SharedBytes content(size_t i) const override { return map_file(root_ / pictures_[i].name); }

 private:
  static std::optional<struct stat> status(const std::filesystem::path& path, bool follow) {
    struct stat s {};
    if ((follow ? ::stat(path.c_str(), &s) : ::lstat(path.c_str(), &s)) != 0) return std::nullopt;
    return s;
  }

  void walk(const std::filesystem::path& folder, const std::string& name) {
    const auto own = status(folder, true);
    if (!own) throw failure({.where = folder.string(), .what = "folder cannot be read"});
    open_.push_back({own->st_dev, own->st_ino});
    try {
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        visit(entry.path(), name.empty() ? "" : name + "/");
      }
    } catch (const std::filesystem::filesystem_error& e) {
      throw failure({.where = folder.string(), .what = "folder cannot be read: " + e.code().message()});
    }
    open_.pop_back();
  }

  void visit(const std::filesystem::path& path, const std::string& prefix) {
    const auto name = prefix + path.filename().string();
    const auto target = status(path, true);
    if (!target) {  // a link that leads nowhere
      if (is_picture_name(name)) throw failure({.where = path.string(), .what = "link to a file that is not there"});
      return;
    }
    if (S_ISREG(target->st_mode) && is_picture_name(name)) {
      pictures_.push_back({name, static_cast<uint64_t>(target->st_size)});
    }
    if (!S_ISDIR(target->st_mode)) return;
    const Identity identity{target->st_dev, target->st_ino};
    if (std::find(open_.begin(), open_.end(), identity) != open_.end()) return;
    const auto own = status(path, false);
    const bool link = own && S_ISLNK(own->st_mode);
    const bool outermost_link = link && !below_link_;
    if (below_link_ || link) {
      if (outermost_link) entered_.clear();
      if (!entered_.insert(identity).second) return;
    }
    below_link_ |= link;
    folders_.insert(name);
    walk(path, name);
    if (outermost_link) below_link_ = false;
  }

  std::filesystem::path root_;
  std::vector<Identity> open_;
  std::set<Identity> entered_;
  bool below_link_ = false;
};

class ArchiveStore : public FileStore {
 public:
  explicit ArchiveStore(const std::filesystem::path& path)
      : FileStore(path.string(), path.filename().string() + ":"), index_(path) {
    for (int64_t i = 0; i < index_.size(); ++i) {
      const auto& name = index_.name(i);
      for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
        folders_.insert(name.substr(0, slash));
      }
      if (!is_picture_name(name)) continue;
      pictures_.push_back({name, index_.bytes(i).size()});
      positions_.push_back(i);
    }
  }
  SharedBytes content(size_t i) const override { return {nullptr, index_.bytes(positions_[i])}; }

 private:
  TarIndex index_;
  std::vector<int64_t> positions_;  // of picture i in the index
};

}  // namespace

bool is_picture_name(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kExtensions = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                                                  ".pgm", ".tif",  ".tiff", ".webp"};
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::any_of(kExtensions.begin(), kExtensions.end(),
                     [&](auto extension) { return lower.ends_with(extension); });
}

std::shared_ptr<const FileStore> open_folder(const std::filesystem::path& root) {
  return std::make_shared<FolderStore>(root);
}

std::shared_ptr<const FileStore> open_archive(const std::filesystem::path& path) {
  return std::make_shared<ArchiveStore>(path);
}

}  // namespace nextscale
