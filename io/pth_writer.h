#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "nextscale/io/safetensors.h"
#include "nextscale/io/zip_writer.h"

namespace nextscale {

/// Writes a state dict as torch.save does (zip form, an OrderedDict of tensors), tensor by tensor, so that a model
/// never stands in memory twice. Python reads it with torch.load(path), weights_only and mmap included. Complete and in
/// its place after finish(), not there (an older file of that name untouched) if finish() was not reached.
class PthWriter {
 public:
  /// Writes the names and shapes. @throws Error failure: a name that comes twice or is no UTF-8, or the disk is full
  PthWriter(const std::filesystem::path& path, std::vector<SafetensorsShape> tensors,
            FileOperations& operations = system_files());
  /// The bytes of the next tensor in the constructor's order, little-endian, C order.
  /// @throws Error failure if their number is not that of dtype and shape, or the disk is full
  void write(std::span<const std::byte> data);
  /// @throws Error failure if tensors are missing or the file cannot be put in its place
  void finish();

 private:
  std::string where_;
  std::vector<SafetensorsShape> tensors_;
  size_t next_ = 0;
  ZipWriter zip_;
};

}  // namespace nextscale
