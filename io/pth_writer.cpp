#include "nextscale/io/pth_writer.h"

#include <limits>
#include <string_view>
#include <unordered_set>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pth_storage.h"

namespace nextscale {
namespace {

constexpr uint64_t kStorageAlignment = 64;  // as PyTorch's own, so that files can be mapped
constexpr std::string_view kOrderedDictCall = "ccollections\nOrderedDict\n)R";

std::string little_endian(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}
std::string pickled(std::string_view text) { return "X" + little_endian(text.size(), 4) + std::string(text); }
std::string pickled(int64_t value) {
  const bool fits = value >= 0 && value <= std::numeric_limits<int32_t>::max();
  return fits ? "J" + little_endian(static_cast<uint64_t>(value), 4)
              : "\x8a\x08" + little_endian(static_cast<uint64_t>(value), 8);
}
std::string pickled_tuple(const std::vector<int64_t>& values) {
  std::string bytes = "(";
  for (const auto value : values) bytes += pickled(value);
  return bytes + "t";
}
/// "torch.FloatStorage" -> the operation that names it
std::string pickled_name(std::string_view name) {
  const auto dot = name.rfind('.');
  return fmt::format("c{}\n{}\n", name.substr(0, dot), name.substr(dot + 1));
}

/// _rebuild_tensor_v2(('storage', type, key, 'cpu', count), 0, shape, strides, False, OrderedDict()). What has no
/// storage class of its own goes by _rebuild_tensor_v3, an untyped storage and the dtype behind.
std::string pickled_tensor(const SafetensorsShape& tensor, size_t key, int64_t bytes) {
  const auto type = torch_storage_name(tensor.dtype);
  std::vector<int64_t> strides(tensor.shape.size());
  int64_t step = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<int64_t>(tensor.shape[i], 1);
  }
  std::string out = pickled_name(type.empty() ? "torch._utils._rebuild_tensor_v3" : "torch._utils._rebuild_tensor_v2");
  out += "((" + pickled("storage") + pickled_name(type.empty() ? kUntypedStorage : type);
  out += pickled(fmt::format("{}", key)) + pickled("cpu");
  out += pickled(type.empty() ? bytes : bytes / item_bytes(tensor.dtype)) + "tQ" + pickled(int64_t{0});
  out += pickled_tuple(tensor.shape) + pickled_tuple(strides) + "\x89" + std::string(kOrderedDictCall);
  if (type.empty()) out += pickled_name(torch_dtype_name(tensor.dtype));
  return out + "tR";
}

std::string pickled_state_dict(const std::vector<SafetensorsShape>& tensors, const std::string& where) {
  std::string out = "\x80\x02" + std::string(kOrderedDictCall) + "(";
  std::unordered_set<std::string_view> names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& name = tensors[i].name;
    const auto here = where + ": " + printable(name, 1000);
    if (!is_utf8(name)) throw failure({here, "cannot be written: name is no UTF-8 text", {}, {}});
    if (!names.insert(name).second) throw failure({here, "cannot be written: entry comes twice", {}, {}});
    out += pickled(name) + pickled_tensor(tensors[i], i, tensor_bytes(tensors[i].dtype, tensors[i].shape, here));
  }
  return out + "u.";
}

}  // namespace

PthWriter::PthWriter(const std::filesystem::path& path, std::vector<SafetensorsShape> tensors,
                     FileOperations& operations)
    : where_(path.string()), tensors_(std::move(tensors)), zip_(path, operations) {
  zip_.add("archive/data.pkl", as_bytes(pickled_state_dict(tensors_, where_)), kStorageAlignment);
  zip_.add("archive/byteorder", as_bytes("little"), kStorageAlignment);
}

void PthWriter::write(std::span<const std::byte> data) {
  if (next_ == tensors_.size()) throw failure({where_, "cannot be written: more tensors than were named", {}, {}});
  const auto& tensor = tensors_[next_];
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape, where_);
  if (static_cast<int64_t>(data.size()) != bytes) {
    throw failure({where_ + ": " + tensor.name, "cannot be written: wrong size", fmt::format("{} bytes", bytes),
                   fmt::format("{} bytes", data.size())});
  }
  zip_.add(fmt::format("archive/data/{}", next_), data, kStorageAlignment);
  ++next_;
}

void PthWriter::finish() {
  if (next_ != tensors_.size()) {
    throw failure({where_ + ": " + tensors_[next_].name, "cannot be written: tensor was not given", {}, {}});
  }
  zip_.add("archive/version", as_bytes("3\n"), kStorageAlignment);
  zip_.finish();
}

}  // namespace nextscale
