#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "nextscale/base/state_dict.h"
#include "nextscale/io/file_operations.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {

/// Tensors by name with a file's text metadata. Ours say what they are:
/// metadata["format"] = "nextscale.tokenizer" | "nextscale.transformer" | "nextscale.classifier" | "nextscale.tokens" |
/// …, metadata["config"] = JSON text of the options.
struct WeightsFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads a safetensors file, mapped: tensors point into the file (private copy-on-write) and keep the map alive. Data
/// that is not aligned for its type is copied.
/// @throws Error failure naming file, entry, expected and found
WeightsFile read_weights(const std::filesystem::path& path);

/// Writes a safetensors file beside its place, fsynced and renamed: complete or not there. Tensors may lie on any
/// device and need not be contiguous; one at a time is copied.
/// @throws Error failure, e.g. when the disk is full; an old file of that name then stays as it was
void write_weights(const std::filesystem::path& path, const WeightsFile& file,
                   FileOperations& operations = system_files());

/// metadata["format"], @throws Error failure if it is not the expected one ("…: not a tokenizer: expected …, got …")
void expect_format(const WeightsFile& file, const std::string& format, const std::string& where);

}  // namespace nextscale
