#include "nextscale/io/npz.h"

#include <algorithm>
#include <utility>

#include "nextscale/base/error.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

constexpr std::string_view kEnding = ".npy";

/// What is no archive gets a better word than "its central directory is missing".
SharedBytes checked(SharedBytes archive, const std::string& where) {
  if (archive.bytes.empty()) throw failure({where, "empty file", "an archive of numpy arrays", {}});
  if (as_text(archive.bytes).starts_with("\x93NUMPY")) {
    throw failure({where, "a single numpy array", "an archive of arrays (numpy.savez)", {}});
  }
  if (!is_zip(archive.bytes)) throw failure({where, "not an archive of numpy arrays (a zip file)", {}, {}});
  return archive;
}

}  // namespace

NpzFile::NpzFile(const std::filesystem::path& path) : NpzFile(map_file(path), path.string()) {}

NpzFile::NpzFile(SharedBytes archive, std::string where)
    : where_(std::move(where)), zip_(checked(std::move(archive), where_), where_) {
  for (const auto& entry : zip_.entries()) {
    if (entry.name.ends_with(kEnding)) names_.push_back(entry.name.substr(0, entry.name.size() - kEnding.size()));
  }
}

bool NpzFile::has(const std::string& name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

const NpyArray& NpzFile::array(const std::string& name, ZipChecksums checksums) {
  if (const auto before = read_.find(name); before != read_.end()) return before->second;
  const auto* entry = zip_.find(name + std::string(kEnding));
  if (!entry) {
    std::string found;
    for (size_t i = 0; i < std::min<size_t>(names_.size(), 8); ++i) found += (i > 0 ? ", " : "") + names_[i];
    if (names_.size() > 8) found += " and more";
    throw failure({where_, "no such array in the archive", name, found.empty() ? "no arrays" : found});
  }
  return read_.emplace(name, parse_npy(zip_.read(*entry, checksums), where_ + ": " + name)).first->second;
}

}  // namespace nextscale
