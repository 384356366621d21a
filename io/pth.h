#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nextscale/io/bytes.h"
#include "nextscale/io/safetensors.h"
#include "nextscale/io/zip.h"

namespace nextscale {

/// Files of torch.save, in both forms: a zip archive (data.pkl and one entry a storage, since PyTorch 1.6) and the
/// older stream of pickles followed by the storages. Nothing of their pickles is run (io/pickle.h). The reader knows
/// nothing of LibTorch; io/weights.h makes tensors.

/// Limits against damaged and hostile files.
inline constexpr size_t kPthDepthLimit = 100;                     ///< dicts in dicts
inline constexpr size_t kPthTextLimit = size_t{256} << 20;        ///< bytes of all names and values
inline constexpr int64_t kPthExpansionLimit = int64_t{64} << 20;  ///< see PthFile

/// A view of a storage.
struct PthTensor {
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape, strides;  ///< of the same length; strides in values, not negative
  int64_t offset = 0;                   ///< in values, from the storage's begin
  SharedBytes storage;                  ///< all of it: tensors of one storage share its bytes

  bool contiguous() const;  ///< values stand in C order without gaps
  /// From the first to the last byte that the tensor may touch.
  std::span<const std::byte> data() const;
};

struct PthEntry {
  std::string path;  ///< keys and list positions from the root joined with '/': "trainer/var_wo_ddp/head.weight"
  PthTensor tensor;
};

/// What is no tensor: a number, a text, a list of such ("[1, 2, 3]"), None ("null").
struct PthValue {
  std::string path;
  std::string text;
};

/// Everything in the order of the file. Every tensor was checked: it lies within its storage, and no product or sum
/// overflows. Making all tensors that are not contiguous takes at most twice the file's size and kPthExpansionLimit.
struct PthFile {
  std::vector<PthEntry> tensors;  ///< each path once; a file that holds only a tensor: "tensor"
  std::vector<PthValue> values;
};

/// Starts as one of the two forms does. The file may still be something else.
bool looks_like_pth(std::span<const std::byte> bytes);

/// @param where      names the file in errors
/// @param checksums  stored tensors of the zip form are not compared with theirs unless `always`
/// @throws Error failure naming file, entry, expected and found
PthFile parse_pth(const SharedBytes& file, const std::string& where, ZipChecksums checksums = ZipChecksums::compressed);

}  // namespace nextscale
