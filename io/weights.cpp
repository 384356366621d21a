#include "nextscale/io/weights.h"

#include <algorithm>
#include <array>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

struct TypePair {
  Dtype dtype;
  at::ScalarType scalar;
};
constexpr std::array<TypePair, 13> kTypes{{{Dtype::f64, at::kDouble},
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

at::ScalarType scalar_type(Dtype dtype) { return kTypes.at(static_cast<size_t>(dtype)).scalar; }

Dtype file_type(const at::Tensor& tensor, const std::string& where) {
  for (const auto& each : kTypes) {
    if (each.scalar == tensor.scalar_type()) return each.dtype;
  }
  throw failure({where, "cannot be written: safetensors has no such type", {}, at::toString(tensor.scalar_type())});
}

at::Tensor make_tensor(const SafetensorsEntry& entry, const std::shared_ptr<const MappedFile>& map,
                       const std::string& where) {
  const auto options = at::TensorOptions().dtype(scalar_type(entry.dtype));
  if (entry.data.empty()) return at::empty(entry.shape, options);
  if (entry.dtype == Dtype::boolean) {
    // any other byte than 0 and 1 in a C++ bool is undefined behaviour
    const auto wrong = std::find_if(entry.data.begin(), entry.data.end(), [](std::byte b) { return b > std::byte{1}; });
    if (wrong != entry.data.end()) {
      throw failure({where + ": " + entry.name, "BOOL data holds another byte", "0 or 1",
                     std::to_string(static_cast<int>(*wrong))});
    }
  }
  // the map is private and writable: a changed tensor changes its own page, never the file
  auto* data = const_cast<std::byte*>(entry.data.data());
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(item_bytes(entry.dtype)) != 0) {
    auto copy = at::empty(entry.shape, options);
    std::copy(entry.data.begin(), entry.data.end(), static_cast<std::byte*>(copy.data_ptr()));
    return copy;
  }
  return at::from_blob(data, entry.shape, [held = map](void*) mutable { held.reset(); }, options);
}

/// "nextscale.tokenizer" -> "tokenizer"
std::string kind_of(const std::string& format) { return format.substr(format.rfind('.') + 1); }

}  // namespace

WeightsFile read_weights(const std::filesystem::path& path) {
  const auto map = MappedFile::open(path, MappedFile::Mode::copy_on_write);
  auto parsed = parse_safetensors(map->bytes(), path.string());
  WeightsFile file;
  file.metadata = std::move(parsed.metadata);
  file.tensors.reserve(parsed.entries.size());
  for (const auto& entry : parsed.entries) {
    file.tensors.emplace_back(entry.name, make_tensor(entry, map, path.string()));
  }
  return file;
}

void write_weights(const std::filesystem::path& path, const WeightsFile& file, FileOperations& operations) {
  std::vector<SafetensorsShape> shapes;
  shapes.reserve(file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    const auto where = path.string() + ": " + name;
    if (!tensor.defined()) throw failure({where, "cannot be written: tensor is undefined", {}, {}});
    if (tensor.layout() != at::kStrided || tensor.is_quantized()) {
      throw failure({where, "cannot be written", "a dense tensor", tensor.toString()});
    }
    shapes.push_back({name, file_type(tensor, where), tensor.sizes().vec()});
  }
  SafetensorsWriter writer(path, std::move(shapes), file.metadata, operations);
  for (const auto i : writer.order()) {
    const auto plain = file.tensors[i].second.detach().to(at::kCPU).contiguous().resolve_conj().resolve_neg();
    writer.write({static_cast<const std::byte*>(plain.const_data_ptr()), static_cast<size_t>(plain.nbytes())});
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
