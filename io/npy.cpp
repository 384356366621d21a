#include "nextscale/io/npy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kHeaderAlignment = 64;  // numpy's

struct TypeRow {
  Dtype dtype;
  std::string_view code;  // behind the byte order
  std::string_view name;
};
constexpr std::array<TypeRow, 13> kNumpyTypes{{{Dtype::f64, "f8", "float64"},
                                               {Dtype::f32, "f4", "float32"},
                                               {Dtype::f16, "f2", "float16"},
                                               {Dtype::bf16, "", "bfloat16"},
                                               {Dtype::i64, "i8", "int64"},
                                               {Dtype::i32, "i4", "int32"},
                                               {Dtype::i16, "i2", "int16"},
                                               {Dtype::i8, "i1", "int8"},
                                               {Dtype::u64, "u8", "uint64"},
                                               {Dtype::u32, "u4", "uint32"},
                                               {Dtype::u16, "u2", "uint16"},
                                               {Dtype::u8, "u1", "uint8"},
                                               {Dtype::boolean, "b1", "bool"}}};

const TypeRow& type_row(Dtype dtype) { return kNumpyTypes.at(static_cast<size_t>(dtype)); }

struct Type {
  Dtype dtype;
  bool big_endian;
};

Type type_of(const std::string& descr, const std::string& where) {
  const auto text = std::string_view(descr);
  if (text.size() > 1 && text[1] == 'O') {
    throw failure({where, "holds pickled objects, which are never loaded", "numbers", descr});
  }
  const char order = text.empty() ? '\0' : text[0];
  for (const auto& each : kNumpyTypes) {
    if (each.code.empty() || text.empty() || text.substr(1) != each.code) continue;
    const bool one_byte = item_bytes(each.dtype) == 1;
    if (order == '<' || order == '>' || (order == '|' && one_byte)) return {each.dtype, order == '>' && !one_byte};
  }
  throw failure({where, "has another type", "bool, int8 to uint64 or float16 to float64", "'" + descr + "'"});
}

/// Memory of its own of the same size, filled by `fill`.
template <class Fill>
SharedBytes rebuilt(const SharedBytes& data, const Fill& fill) {
  auto copy = std::make_shared<std::vector<std::byte>>(data.bytes.size());
  fill(data.bytes.data(), copy->data());
  const std::span<const std::byte> bytes(*copy);
  return {std::move(copy), bytes};
}

SharedBytes little_endian(const SharedBytes& data, size_t item) {
  return rebuilt(data, [&](const std::byte* in, std::byte* out) {
    for (size_t i = 0; i < data.bytes.size(); i += item) std::reverse_copy(in + i, in + i + item, out + i);
  });
}

/// First index fastest -> last index fastest.
SharedBytes c_order(const SharedBytes& data, const std::vector<int64_t>& shape, size_t item) {
  return rebuilt(data, [&](const std::byte* in, std::byte* out) {
    struct Axis {
      size_t size, stride, index;  // the stride in bytes, in `in`
    };
    std::vector<Axis> axes;
    for (size_t stride = item; const auto size : shape) {
      axes.push_back({static_cast<size_t>(size), stride, 0});
      stride *= static_cast<size_t>(size);
    }
    size_t from = 0;
    for (size_t to = 0; to < data.bytes.size(); to += item) {
      std::memcpy(out + to, in + from, item);
      for (size_t d = axes.size(); d-- > 0;) {
        auto& axis = axes[d];
        from += axis.stride;
        if (++axis.index < axis.size) break;
        from -= axis.stride * axis.index;
        axis.index = 0;
      }
    }
  });
}

size_t header_bytes(ByteCursor& cursor, int version) {
  size_t length = 0;
  const auto field = cursor.take(version == 1 ? 2 : 4, "length of the header");
  for (size_t i = field.size(); i-- > 0;) length = length << 8 | static_cast<size_t>(field[i]);
  return length;
}

}  // namespace

std::string_view numpy_name(Dtype dtype) { return type_row(dtype).name; }

NpyArray parse_npy(const SharedBytes& file, const std::string& where) {
  if (!as_text(file.bytes).starts_with(kMagic)) {
    throw failure({where, "not a numpy array", "\\x93NUMPY at its beginning", file.bytes.empty() ? "nothing" : ""});
  }
  ByteCursor cursor(file.bytes, where);
  cursor.take(kMagic.size(), "magic");
  const int major = cursor.u8("version"), minor = cursor.u8("version");
  if (major < 1 || major > 3 || minor != 0) {
    throw failure({where, "unknown version of the npy format", "1.0, 2.0 or 3.0", fmt::format("{}.{}", major, minor)});
  }
  const auto length = header_bytes(cursor, major);
  if (length > kNpyHeaderLimit) {
    throw failure({where, "header is too long", fmt::format("at most {} bytes", kNpyHeaderLimit),
                   fmt::format("{} bytes", length)});
  }
  auto header = parse_npy_header(as_text(cursor.take(length, "header")), where);
  return npy_array(std::move(header), {file.owner, cursor.take(cursor.left(), "values")}, where);
}

NpyArray npy_array(NpyHeader header, const SharedBytes& values, const std::string& where) {
  const auto type = type_of(header.descr, where);
  const auto bytes = tensor_bytes(type.dtype, header.shape, where);
  const auto& data = values.bytes;
  if (bytes != static_cast<int64_t>(data.size())) {
    throw failure({where, "values have the wrong size",
                   fmt::format("{} bytes for {} {}", bytes, numpy_name(type.dtype), shape_text(header.shape)),
                   fmt::format("{} bytes", data.size())});
  }
  const auto wrong = [](std::byte b) { return b > std::byte{1}; };
  if (type.dtype == Dtype::boolean && std::any_of(data.begin(), data.end(), wrong)) {
    throw failure({where, "truth values hold another byte", "0 or 1", {}});
  }
  NpyArray array{.dtype = type.dtype, .shape = std::move(header.shape), .data = values};
  const auto item = static_cast<size_t>(item_bytes(array.dtype));
  if (type.big_endian) array.data = little_endian(array.data, item);
  if (header.fortran_order && array.shape.size() > 1) array.data = c_order(array.data, array.shape, item);
  return array;
}

std::string npy_header(Dtype dtype, std::span<const int64_t> shape, const std::string& where) {
  if (type_row(dtype).code.empty()) {
    throw failure({where, "cannot be written: numpy has no such type", {}, std::string(numpy_name(dtype))});
  }
  if (shape.size() > 32) {  // numpy 1's limit
    throw failure({where, "cannot be written: too many dimensions", "at most 32", std::to_string(shape.size())});
  }
  std::string sizes;
  for (const auto size : shape) sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", size);
  if (shape.size() == 1) sizes += ",";
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   item_bytes(dtype) == 1 ? '|' : '<', type_row(dtype).code, sizes);
  const size_t before = kMagic.size() + 4;  // version and length
  const size_t whole = (before + header.size() + 1 + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
  header.resize(whole - before - 1, ' ');
  header += '\n';
  std::string text(kMagic);
  text += {'\x01', '\0', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  return text + header;
}

}  // namespace nextscale
