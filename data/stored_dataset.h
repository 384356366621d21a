#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nextscale/data/dataset.h"
#include "nextscale/data/picture.h"

namespace nextscale {

/// What open_data needs to know of a part besides its pictures.
class StoredDataset : public Dataset {
 public:
  /// Name that stays when the data is moved or packed: path inside the part, or the position in an IDX file.
  virtual std::string key(int64_t i) const = 0;
  /// From the header alone where that is possible.
  virtual PictureSize size_of(int64_t i) const = 0;
  /// As stored, compressed or not.
  virtual uint64_t bytes_of(int64_t i) const = 0;
  /// Picture i, or nothing and why where it cannot be decoded. @throws Error failure if it cannot even be read
  virtual at::Tensor decoded(int64_t i, std::string& fault) const = 0;
};

/// Parts as they lie on disk. `val` is empty where the data holds nothing out.
struct StoredParts {
  std::shared_ptr<const StoredDataset> train, val;
  std::vector<std::string> class_names;
  int64_t channels = 3;
};

/// Name of an IDX file of pictures: …images…idxD-ubyte, with or without .gz.
bool is_idx_images_name(const std::string& name);
/// @param files IDX files of pictures in one folder: one for training, one or none that is held out
/// @throws Error failure
StoredParts open_idx_parts(const std::vector<std::filesystem::path>& files, const DataOptions& options);
/// Folder of class folders or of pictures, with or without parts.
StoredParts open_folder_parts(const std::filesystem::path& folder, const DataOptions& options);
/// @param files tar files of one folder: a single one with or without parts inside, or one for each part
StoredParts open_archive_parts(const std::vector<std::filesystem::path>& files, const DataOptions& options);

/// The same pictures, but one that cannot be decoded has its place taken by the next good one of its class, in the
/// part's order and from its end on to its beginning. What stands where depends on the data alone.
std::shared_ptr<const StoredDataset> skipping_bad(std::shared_ptr<const StoredDataset> all);

/// Some of another part's pictures.
std::shared_ptr<const StoredDataset> subset(std::shared_ptr<const StoredDataset> all, std::vector<int64_t> chosen);

}  // namespace nextscale
