#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "nextscale/io/npy.h"
#include "nextscale/io/zip.h"
#include "nextscale/io/zip_writer.h"

namespace nextscale {

/// numpy's archive of arrays (.npz), as numpy.savez and savez_compressed write it, for reading by name. Members that
/// are no arrays are passed over.
class NpzFile {
 public:
  /// The file is mapped. @throws Error failure naming the file: no archive, damaged, a name twice
  explicit NpzFile(const std::filesystem::path& path);
  /// @param where names the file in errors
  NpzFile(SharedBytes archive, std::string where);

  const std::vector<std::string>& names() const { return names_; }  ///< in the order of the archive
  bool has(const std::string& name) const;
  /// Values of a stored array point into the file; those of a compressed one are decompressed at the first call and
  /// kept.
  /// @param checksums `never` spares a pass over the values of a stored array
  /// @throws Error failure naming file, array, expected and found: not there (names those that are), damaged, and all
  /// that parse_npy refuses
  const NpyArray& array(const std::string& name, ZipChecksums checksums = ZipChecksums::always);

 private:
  std::string where_;
  ZipReader zip_;
  std::vector<std::string> names_;
  std::map<std::string, NpyArray> read_;
};

/// Writes numpy's archive of arrays (as numpy.savez: a zip file of NAME.npy, not compressed) one array after another
/// and piece by piece, so that no array need stand in memory; of any size. Complete and in its place after finish(),
/// not there (an older file of that name untouched) if finish() was not reached.
class NpzWriter {
 public:
  explicit NpzWriter(const std::filesystem::path& path, FileOperations& operations = system_files());
  /// Begins an array; the one before must be whole.
  /// @param name of printable ASCII, each once
  /// @throws Error failure naming file and array: values of the array before are missing, a name that cannot be, a type
  /// that numpy does not have (BF16), or the disk is full
  void begin(const std::string& name, Dtype dtype, const std::vector<int64_t>& shape);
  /// The array's next values, little-endian, C order. @throws Error failure if they are too many, or the disk is full
  void write(std::span<const std::byte> values);
  /// @throws Error failure if values are missing or the file cannot be put in its place
  void finish();

 private:
  void require_whole() const;
  std::string here() const;

  std::string where_, array_;
  ZipWriter zip_;
  std::unordered_set<std::string> names_;
  uint64_t left_ = 0;  // bytes of values that the newest array lacks
};

}  // namespace nextscale
