#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nextscale/io/atomic_file.h"

namespace nextscale {

/// The safetensors format: u64 little-endian length of a JSON header, the header
/// {"__metadata__": {text: text}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}, then the
/// data. Reader and writer know nothing of LibTorch; io/weights.h makes tensors.
enum class Dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };
int64_t item_bytes(Dtype dtype);
std::string_view dtype_name(Dtype dtype);  ///< as in the format: "F32"
std::optional<Dtype> dtype_from_name(std::string_view name);

/// Limits against damaged and hostile files.
inline constexpr uint64_t kSafetensorsHeaderLimit = 100'000'000;  ///< bytes, as in the reference implementation
inline constexpr size_t kSafetensorsDimensionLimit = 64;          ///< LibTorch's own limit is of this size

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  ///< into the file, in C order; may be unaligned for its type
};

struct SafetensorsFile {
  std::vector<SafetensorsEntry> entries;  ///< in the order of the header
  std::map<std::string, std::string> metadata;
};

/// Reads the header and checks all of it: entries lie inside the file, without overlap or gap, and have the bytes that
/// dtype and shape ask for.
/// @param where names the file in errors
/// @throws Error failure naming file, entry, expected and found
SafetensorsFile parse_safetensors(std::span<const std::byte> file, const std::string& where);

struct SafetensorsShape {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
};

/// Writes a file tensor by tensor, so that a model never stands in memory twice. Complete and in its place after
/// finish(), not there (an older file of that name untouched) if finish() was not reached.
class SafetensorsWriter {
 public:
  /// Writes the header. @throws Error failure for a name that comes twice or is "__metadata__", or if the disk is full
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsShape> tensors,
                    const std::map<std::string, std::string>& metadata, FileOperations& operations = system_files());
  /// Positions in the constructor's list in the order of the data: larger items first, otherwise as given. So every
  /// tensor is aligned for its type (Python's reader and ours can map it); the header keeps the given order.
  const std::vector<size_t>& order() const { return order_; }
  /// The bytes of the next tensor of `order()`, little-endian, C order.
  /// @throws Error failure if their number is not that of dtype and shape, or the disk is full
  void write(std::span<const std::byte> data);
  /// @throws Error failure if tensors are missing or the file cannot be put in its place
  void finish();

 private:
  std::string where_;
  std::vector<SafetensorsShape> tensors_;
  std::vector<size_t> order_;
  size_t next_ = 0;  // in order_
  AtomicFile file_;
};

/// Bytes of a tensor in a file. @throws Error failure naming `where`: negative sizes, or a product beyond 63 bits
int64_t tensor_bytes(Dtype dtype, std::span<const int64_t> shape, const std::string& where);

}  // namespace nextscale
