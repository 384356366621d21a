#include "nextscale/io/weights.h"

#include <algorithm>
#include <array>
#include <functional>
#include <unordered_map>

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/io/numpy_pickle.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pth.h"
#include "nextscale/io/pth_writer.h"

namespace nextscale {
namespace {

struct TypePair {
  Dtype dtype;
  at::ScalarType scalar;
};
constexpr std::array<TypePair, 13> kTensorTypes{{{Dtype::f64, at::kDouble},
                                                 {Dtype::f32, at::kFloat},
                                                 {Dtype::f16, at::kHalf},
                                                 {Dtype::bf16, at::kBFloat16},
                                                 {Dtype::i64, at::kLong},
                                                 {Dtype::i32, at::kInt},
                                                 {Dtype::i16, at::kShort},
                                                 {Dtype::i8, at::kChar},
                                                 {Dtype::u64, at::kUInt64},
                                                 {Dtype::u32, at::kUInt32},
                                                 {Dtype::u16, at::kUInt16},
                                                 {Dtype::u8, at::kByte},
                                                 {Dtype::boolean, at::kBool}}};

at::ScalarType scalar_type(Dtype dtype) { return kTensorTypes.at(static_cast<size_t>(dtype)).scalar; }

Dtype file_type(const at::Tensor& tensor, const std::string& where, const std::string& format) {
  for (const auto& each : kTensorTypes) {
    if (each.scalar == tensor.scalar_type()) return each.dtype;
  }
  throw failure({where, "cannot be written: " + format + " has no such type", {}, at::toString(tensor.scalar_type())});
}

void check_truth_values(std::span<const std::byte> data, const std::string& where) {
  // any other byte than 0 and 1 in a C++ bool is undefined behaviour
  const auto wrong = std::find_if(data.begin(), data.end(), [](std::byte b) { return b > std::byte{1}; });
  if (wrong == data.end()) return;
  throw failure({where, "BOOL data holds another byte", "0 or 1", std::to_string(static_cast<int>(*wrong))});
}

bool is_aligned(const std::byte* data, Dtype dtype) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(item_bytes(dtype)) == 0;
}

at::Tensor copy_of(std::span<const std::byte> bytes) {
  auto copy = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(copy.data_ptr()));
  return copy;
}

/// @param owner  keeps the entry's data alive: a private map or memory of its own
at::Tensor make_tensor(const SafetensorsEntry& entry, const std::shared_ptr<const void>& owner,
                       const std::string& where) {
  const auto options = at::TensorOptions().dtype(scalar_type(entry.dtype));
  if (entry.data.empty()) return at::empty(entry.shape, options);
  if (entry.dtype == Dtype::boolean) check_truth_values(entry.data, where + ": " + entry.name);
  if (!is_aligned(entry.data.data(), entry.dtype)) {
    return copy_of(entry.data).view(scalar_type(entry.dtype)).view(entry.shape);
  }
  // the map is private and writable: a changed tensor changes its own page, never the file
  auto* data = const_cast<std::byte*>(entry.data.data());
  return at::from_blob(data, entry.shape, [held = owner](void*) mutable { held.reset(); }, options);
}

/// Whole pages of a private map that nobody has changed: they come from the file again when they are read. A storage
/// that was copied thus does not stand in memory twice.
void forget_pages(std::span<const std::byte> bytes) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

/// Makes tensors of a .pth's views. A storage that is not aligned (the older form) is copied once, however many tensors
/// share it.
class PthTensors {
 public:
  explicit PthTensors(std::shared_ptr<const void> map) : map_(std::move(map)) {}

  at::Tensor make(const PthTensor& tensor, const std::string& where) {
    const auto options = at::TensorOptions().dtype(scalar_type(tensor.dtype));
    const auto touched = tensor.data();
    if (touched.empty()) return at::empty(tensor.shape, options);
    if (tensor.dtype == Dtype::boolean) check_truth_values(touched, where);
    const auto* storage = tensor.storage.bytes.data();
    // the owner's bytes are a private map or memory of its own: both may be changed
    auto* begin = const_cast<std::byte*>(touched.data());
    std::function<void(void*)> release = [held = tensor.storage.owner](void*) mutable { held.reset(); };
    if (!is_aligned(touched.data(), tensor.dtype)) {
      const auto found = copies_.try_emplace(storage, at::Tensor()).first;
      if (!found->second.defined()) {
        found->second = copy_of(tensor.storage.bytes);
        if (tensor.storage.owner == map_) forget_pages(tensor.storage.bytes);
      }
      begin = static_cast<std::byte*>(found->second.data_ptr()) + (touched.data() - storage);
      release = [held = found->second](void*) mutable { held.reset(); };
    }
    if (tensor.contiguous()) return at::from_blob(begin, tensor.shape, std::move(release), options);
    return at::from_blob(begin, tensor.shape, tensor.strides, std::move(release), options).contiguous();
  }

 private:
  std::shared_ptr<const void> map_;  // of the file
  std::unordered_map<const std::byte*, at::Tensor> copies_;
};

WeightsFile weights_of(const std::shared_ptr<const MappedFile>& map, const SafetensorsFile& parsed,
                       const std::string& where) {
  WeightsFile file;
  file.map = map;
  file.metadata = parsed.metadata;
  file.tensors.reserve(parsed.entries.size());
  for (const auto& entry : parsed.entries) file.tensors.emplace_back(entry.name, make_tensor(entry, map, where));
  return file;
}

WeightsFile weights_of(const std::shared_ptr<const MappedFile>& map, const PthFile& parsed, const std::string& where) {
  WeightsFile file;
  file.map = map;
  file.metadata["source"] = "pth";
  file.tensors.reserve(parsed.tensors.size());
  PthTensors tensors(map);
  for (const auto& [name, tensor] : parsed.tensors) {
    file.tensors.emplace_back(name, tensors.make(tensor, where + ": " + name));
  }
  return file;
}

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  if (bytes.size() < 9 || bytes[8] != std::byte{'{'}) return false;
  return ByteCursor(bytes, {}).u64_little_endian("length") <= kSafetensorsHeaderLimit;
}

/// What a person sees who opens the file: "<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1".
Error unknown_file(std::span<const std::byte> bytes, const std::string& where) {
  const auto text = as_text(bytes.first(std::min<size_t>(bytes.size(), 200)));
  const auto line = text.substr(0, text.find_first_of("\r\n"));
  return failure({where,
                  "neither safetensors nor a PyTorch file",
                  {},
                  bytes.empty() ? "an empty file" : "a file that begins with \"" + printable(line, 48) + "\""});
}

std::vector<SafetensorsShape> shapes_of(const NamedTensors& tensors, const std::string& where,
                                        const std::string& format) {
  std::vector<SafetensorsShape> shapes;
  shapes.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto here = where + ": " + name;
    if (!tensor.defined()) throw failure({here, "cannot be written: tensor is undefined", {}, {}});
    if (tensor.layout() != at::kStrided || tensor.is_quantized()) {
      throw failure({here, "cannot be written", "a dense tensor", tensor.toString()});
    }
    shapes.push_back({name, file_type(tensor, here, format), tensor.sizes().vec()});
  }
  return shapes;
}

at::Tensor plain(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous().resolve_conj().resolve_neg();
}
std::span<const std::byte> bytes_of(const at::Tensor& plain) {
  return {static_cast<const std::byte*>(plain.const_data_ptr()), static_cast<size_t>(plain.nbytes())};
}

/// "nextscale.tokenizer" -> "tokenizer"
std::string kind_of(const std::string& format) { return format.substr(format.rfind('.') + 1); }

}  // namespace

void WeightsFile::forget(const at::Tensor& copied) const {
  if (map == nullptr || !copied.defined() || !copied.is_cpu()) return;
  const auto whole = map->bytes();
  const auto* begin = static_cast<const std::byte*>(copied.const_data_ptr());
  const auto size = static_cast<size_t>(copied.nbytes());
  const std::less_equal<> before;  // defined also for pointers into different memory
  if (before(whole.data(), begin) && before(begin + size, whole.data() + whole.size())) forget_pages({begin, size});
}

WeightsFile read_weights(const std::filesystem::path& path) {
  const auto map = MappedFile::open(path, MappedFile::Mode::copy_on_write);
  const auto bytes = map->bytes();
  const auto where = path.string();
  if (looks_like_safetensors(bytes)) return weights_of(map, parse_safetensors(bytes, where), where);
  if (looks_like_pth(bytes)) return weights_of(map, parse_pth({map, bytes}, where), where);
  throw unknown_file(bytes, where);
}

WeightsFile read_pth(const std::filesystem::path& path) {
  const auto map = MappedFile::open(path, MappedFile::Mode::copy_on_write);
  const auto where = path.string();
  if (!looks_like_pth(map->bytes())) throw unknown_file(map->bytes(), where);
  const auto parsed = parse_pth({map, map->bytes()}, where);
  auto file = weights_of(map, parsed, where);
  for (const auto& [name, text] : parsed.values) file.metadata.try_emplace(name, text);
  return file;
}

NamedTensors read_numpy_pickle(const std::filesystem::path& path) {
  const auto map = MappedFile::open(path, MappedFile::Mode::copy_on_write);
  const auto where = path.string();
  NamedTensors tensors;
  for (auto& [name, array] : parse_numpy_pickle({map, map->bytes()}, where)) {
    const SafetensorsEntry entry{name, array.dtype, std::move(array.shape), array.data.bytes};
    tensors.emplace_back(std::move(name), make_tensor(entry, array.data.owner, where));
  }
  return tensors;
}

NamedTensors section(const NamedTensors& tensors, const std::string& prefix) {
  const auto begin = prefix + "/";
  NamedTensors found;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(begin)) found.emplace_back(name.substr(begin.size()), tensor);
  }
  return found;
}

void write_weights(const std::filesystem::path& path, const WeightsFile& file, FileOperations& operations) {
  SafetensorsWriter writer(path, shapes_of(file.tensors, path.string(), "safetensors"), file.metadata, operations);
  for (const auto i : writer.order()) {
    const auto tensor = plain(file.tensors[i].second);
    writer.write(bytes_of(tensor));
  }
  writer.finish();
}

void write_pth(const std::filesystem::path& path, const NamedTensors& tensors, FileOperations& operations) {
  PthWriter writer(path, shapes_of(tensors, path.string(), "our .pth"), operations);
  for (const auto& [name, given] : tensors) {
    const auto tensor = plain(given);
    writer.write(bytes_of(tensor));
  }
  writer.finish();
}

void expect_format(const WeightsFile& file, const std::string& format, const std::string& where) {
  const auto found = file.metadata.find("format");
  if (found != file.metadata.end() && found->second == format) return;
  throw failure({.where = where,
                 .what = "not a " + kind_of(format),
                 .expected = "format " + format,
                 .got = found == file.metadata.end() ? "a file without a format" : found->second});
}

}  // namespace nextscale
