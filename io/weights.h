#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "nextscale/base/state_dict.h"
#include "nextscale/io/file_operations.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {

/// Tensors by name with a file's text metadata. Ours say what they are:
/// metadata["format"] = "nextscale.tokenizer" | "nextscale.transformer" | "nextscale.classifier" | "nextscale.tokens" |
/// …, metadata["config"] = JSON text of the options. Those of PyTorch say metadata["source"] = "pth".
struct WeightsFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
  std::shared_ptr<const MappedFile> map = nullptr;  ///< of a file that was read: where its tensors lie

  /// For a tensor that was copied and not changed: its whole pages leave memory (and come from the file again if they
  /// are read). Weights that are copied one by one thus never stand in memory twice.
  void forget(const at::Tensor& copied) const;
};

/// Reads a safetensors file or one of torch.save (.pth, both forms, io/pth.h); its content tells which, not its ending.
/// The file is mapped: tensors point into it (private copy-on-write) and keep the map alive. Data that is not aligned
/// for its type, compressed or not in C order is copied. Of a .pth come all tensors in the order of the file, named by
/// their place: "head.weight" of a plain state dict, "trainer/var_wo_ddp/head.weight" of nested dicts; tensors of one
/// storage go on sharing it where they are in C order. A file without a tensor gives an empty list.
/// @throws Error failure naming file, entry, expected and found
WeightsFile read_weights(const std::filesystem::path& path);

/// The same of a .pth alone, with what is no tensor as metadata by its place: "iter" -> "12000",
/// "trainer/config/patch_nums" -> "[1, 2, 3]", None -> "null".
/// @throws Error failure as read_weights
WeightsFile read_pth(const std::filesystem::path& path);

/// Reads a pickled dict of numpy arrays (io/numpy_pickle.h, which says the names): "conv1/0", "conv1/1". The file is
/// mapped as by read_weights.
/// @throws Error failure naming file and entry
NamedTensors read_numpy_pickle(const std::filesystem::path& path);

/// The entries below "prefix/" with names that begin behind it, in the given order.
NamedTensors section(const NamedTensors& tensors, const std::string& prefix);

/// Writes a safetensors file beside its place, fsynced and renamed: complete or not there. Tensors may lie on any
/// device and need not be contiguous; one at a time is copied.
/// @throws Error failure, e.g. when the disk is full; an old file of that name then stays as it was
void write_weights(const std::filesystem::path& path, const WeightsFile& file,
                   FileOperations& operations = system_files());

/// Writes a state dict for Python's torch.load(path, weights_only=True), in the same way. Every tensor gets a storage
/// of its own.
/// @throws Error failure as write_weights
void write_pth(const std::filesystem::path& path, const NamedTensors& tensors,
               FileOperations& operations = system_files());

/// metadata["format"], @throws Error failure if it is not the expected one ("…: not a tokenizer: expected …, got …")
void expect_format(const WeightsFile& file, const std::string& format, const std::string& where);

}  // namespace nextscale
