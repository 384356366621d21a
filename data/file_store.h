#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "nextscale/io/bytes.h"

namespace nextscale {

struct StoredPicture {
  std::string name;    ///< path below the root, with '/'
  uint64_t bytes = 0;  ///< of the file
};

/// Picture files below a folder or in a tar file, without their content.
class FileStore {
 public:
  virtual ~FileStore() = default;
  const std::vector<StoredPicture>& pictures() const { return pictures_; }
  /// All folders below the root, with '/'.
  const std::set<std::string>& folders() const { return folders_; }
  /// For messages: "NAME" where it is a folder, "x.tar:NAME" in an archive.
  std::string shown(size_t i) const { return prefix_ + pictures_[i].name; }
  const std::string& where() const { return where_; }  ///< path as the user gave it
  /// Content of picture i. Safe to call from several threads. @throws Error failure naming it
  virtual SharedBytes content(size_t i) const = 0;

 protected:
  FileStore(std::string where, std::string prefix) : where_(std::move(where)), prefix_(std::move(prefix)) {}
  std::vector<StoredPicture> pictures_;
  std::set<std::string> folders_;

 private:
  std::string where_, prefix_;
};

/// By extension, as the reference lists them (torchvision's list): .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp, any
/// case; hidden files count.
bool is_picture_name(std::string_view name);

/// Everything below a folder. Links are followed; a link that leads back is not, so the walk ends.
/// @throws Error failure naming a folder that cannot be read
std::shared_ptr<const FileStore> open_folder(const std::filesystem::path& root);
/// A tar file, plain or compressed.
std::shared_ptr<const FileStore> open_archive(const std::filesystem::path& path);

}  // namespace nextscale
