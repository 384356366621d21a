#include "nextscale/io/idx.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/gzip.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/io/unpacked.h"

namespace nextscale {
namespace {

constexpr size_t kMostDimensions = 8;

struct Header {
  IdxType type = IdxType::uint8;
  std::vector<int64_t> shape;
  int64_t header_bytes = 0, data_bytes = 0;
};

IdxType value_type(uint8_t code, const std::string& where) {
  if (code == static_cast<uint8_t>(IdxType::uint8)) return IdxType::uint8;
  if (code == static_cast<uint8_t>(IdxType::int32)) return IdxType::int32;
  throw failure({where, "type of the values", "0x08 (uint8) or 0x0C (int32)", fmt::format("0x{:02X}", code)});
}

/// @param begin the file's first bytes, as many as there are up to the longest header
Header parse_header(std::span<const std::byte> begin, const std::string& where) {
  ByteCursor cursor(begin, where);
  const auto magic = cursor.take(4, "magic number");
  const auto byte = [&magic](size_t i) { return static_cast<uint8_t>(magic[i]); };
  if (byte(0) != 0 || byte(1) != 0) {
    throw failure({where, "not an IDX file: first bytes", "00 00", fmt::format("{:02X} {:02X}", byte(0), byte(1))});
  }
  Header header;
  header.type = value_type(byte(2), where);
  const size_t dimensions = byte(3);
  if (dimensions == 0 || dimensions > kMostDimensions) {
    throw failure(
        {where, "number of dimensions", fmt::format("1 to {}", kMostDimensions), fmt::format("{}", dimensions)});
  }
  header.data_bytes = header.type == IdxType::int32 ? 4 : 1;
  bool empty = false, fits = true;
  for (size_t i = 0; i < dimensions; ++i) {
    const int64_t size = cursor.u32_big_endian("sizes of the dimensions");
    header.shape.push_back(size);
    empty = empty || size == 0;
    fits = fits && (size == 0 || checked_multiply(header.data_bytes, size, &header.data_bytes));
  }
  if (!fits || header.data_bytes > kIdxLimit) {
    throw failure({where, "array is too large", "at most " + bytes_text(kIdxLimit), shape_text(header.shape)});
  }
  if (empty) header.data_bytes = 0;
  header.header_bytes = static_cast<int64_t>(cursor.position());
  return header;
}

Error wrong_size(const std::string& where, const Header& header, const std::string& got) {
  return failure({where, "data has the wrong size",
                  fmt::format("{} bytes for {}", header.data_bytes, shape_text(header.shape)), got});
}

IdxArray parse_plain(const SharedBytes& file, const std::string& where) {
  auto header = parse_header(file.bytes, where);
  const auto data = file.bytes.subspan(static_cast<size_t>(header.header_bytes));
  if (static_cast<int64_t>(data.size()) != header.data_bytes) {
    throw wrong_size(where, header, fmt::format("{} bytes", data.size()));
  }
  return {header.type, std::move(header.shape), {file.owner, data}};
}

IdxArray parse_compressed(const SharedBytes& file, const std::string& where) {
  GzipReader reader(file.bytes, where);
  std::array<std::byte, 4 + 4 * kMostDimensions> begin{};
  size_t have = reader.read(std::span(begin).first(4));
  // the fourth byte says how long the header is; a wrong number is parse_header's to refuse
  const size_t sizes = 4 * std::min<size_t>(static_cast<size_t>(begin[3]), kMostDimensions);
  have += reader.read(std::span(begin).subspan(have, have == 4 ? sizes : 0));
  auto header = parse_header(std::span(begin).first(have), where);

  // A header that promises more than the file can hold is refused before anything is unpacked.
  const auto most = gzip_most_bytes(file.bytes.size());
  if (header.data_bytes > most) throw wrong_size(where, header, fmt::format("{} bytes at most", most));
  auto data = unpack(reader, static_cast<uint64_t>(header.data_bytes), where);
  if (static_cast<int64_t>(data.bytes.size()) != header.data_bytes) {
    throw wrong_size(where, header, fmt::format("{} bytes", data.bytes.size()));
  }
  std::byte beyond{};
  if (reader.read({&beyond, 1}) != 0) throw wrong_size(where, header, "more bytes");  // reaching the end checks the crc
  return {header.type, std::move(header.shape), std::move(data)};
}

int32_t int32_at(std::span<const std::byte> bytes, size_t i) {
  uint32_t value = 0;
  for (const auto byte : bytes.subspan(4 * i, 4)) value = (value << 8) | static_cast<uint32_t>(byte);
  return static_cast<int32_t>(value);
}

}  // namespace

IdxArray parse_idx(const SharedBytes& file, const std::string& where) {
  return is_gzip(file.bytes) ? parse_compressed(file, where) : parse_plain(file, where);
}

IdxArray read_idx(const std::filesystem::path& path) { return parse_idx(map_file(path), path.string()); }

IdxImages read_idx_images(const std::filesystem::path& path) {
  auto array = read_idx(path);
  const auto& shape = array.shape;
  const bool grey = shape.size() == 3, colour = shape.size() == 4 && shape[3] == 3;
  if (array.type != IdxType::uint8 || !(grey || colour)) {
    throw failure({path.string(), "not an IDX file of pictures", "uint8 (N, height, width) or (N, height, width, 3)",
                   fmt::format("{} {}", array.type == IdxType::uint8 ? "uint8" : "int32", shape_text(shape))});
  }
  if (shape[1] == 0 || shape[2] == 0) {
    throw failure({path.string(), "pictures are empty", "sides of at least 1", shape_text(shape)});
  }
  return {shape[0], shape[1], shape[2], colour ? 3 : 1, std::move(array.data)};
}

std::vector<int64_t> read_idx_labels(const std::filesystem::path& path) {
  const auto array = read_idx(path);
  if (array.shape.size() != 1) {
    throw failure({path.string(), "not an IDX file of labels", "(N)", shape_text(array.shape)});
  }
  std::vector<int64_t> labels(static_cast<size_t>(array.shape[0]));
  for (size_t i = 0; i < labels.size(); ++i) {
    labels[i] =
        array.type == IdxType::uint8 ? static_cast<int64_t>(array.data.bytes[i]) : int32_at(array.data.bytes, i);
    if (labels[i] < 0) {
      throw failure(
          {fmt::format("{}: label {}", path.string(), i), "label", "0 or more", fmt::format("{}", labels[i])});
    }
  }
  return labels;
}

}  // namespace nextscale
