#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// Tensors by name with a file's text metadata. Ours say what they are:
/// metadata["format"] = "nextscale.tokenizer" | "nextscale.transformer" | "nextscale.classifier" | "nextscale.tokens" | …,
/// metadata["config"] = JSON text of the options.
struct WeightsFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads a safetensors file, mapped: tensors point into the file (private copy-on-write) and keep the map alive.
/// @throws Error failure naming file, entry, expected and found
WeightsFile read_weights(const std::filesystem::path& path);

/// Writes a safetensors file beside its place, fsynced and renamed: complete or not there.
/// @throws Error failure, e.g. when the disk is full; an old file of that name then stays as it was
void write_weights(const std::filesystem::path& path, const WeightsFile& file);

/// metadata["format"], @throws Error failure if it is not the expected one ("…: not a tokenizer: expected …, got …")
void expect_format(const WeightsFile& file, const std::string& format, const std::string& where);

}  // namespace nextscale
