#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {
namespace {

/// Length and header, padded with spaces so that the data begins at a multiple of 8 in the file.
std::string header_text(const std::vector<SafetensorsShape>& tensors, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata, const std::string& where) {
  std::vector<std::array<int64_t, 2>> offsets(tensors.size());
  int64_t end = 0;
  for (const auto i : order) {
    const auto here = where + ": " + tensors[i].name;
    const auto begin = end;
    if (!checked_add(begin, tensor_bytes(tensors[i].dtype, tensors[i].shape, here), &end)) {
      throw failure({here, "cannot be written: too much data", {}, {}});
    }
    offsets[i] = {begin, end};
  }

  std::string text = "{";
  const auto add = [&text](const std::string& name, const nlohmann::ordered_json& value) {
    if (text.size() > 1) text += ",";
    text += nlohmann::ordered_json(name).dump() + ":" + value.dump();
  };
  if (!metadata.empty()) add("__metadata__", metadata);
  std::unordered_set<std::string> names{"__metadata__"};
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, dtype, shape] = tensors[i];
    if (!names.insert(name).second)
      throw failure({where + ": " + name, "cannot be written: entry comes twice", {}, {}});
    add(name, {{"dtype", dtype_name(dtype)}, {"shape", shape}, {"data_offsets", offsets[i]}});
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kSafetensorsHeaderLimit) {
    throw failure(
        {where, "cannot be written: header is too long", bytes_text(kSafetensorsHeaderLimit), bytes_text(text.size())});
  }
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>((static_cast<uint64_t>(text.size()) >> (8 * i)) & 0xFF);
  return length + text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsShape> tensors,
                                     const std::map<std::string, std::string>& metadata, FileOperations& operations)
    : where_(path.string()), tensors_(std::move(tensors)), file_(path, operations) {
  order_.resize(tensors_.size());
  std::iota(order_.begin(), order_.end(), size_t{0});
  std::stable_sort(order_.begin(), order_.end(), [this](size_t a, size_t b) {
    return item_bytes(tensors_[a].dtype) > item_bytes(tensors_[b].dtype);
  });
  std::string header;
  try {
    header = header_text(tensors_, order_, metadata, where_);
  } catch (const nlohmann::json::exception&) {  // names and metadata must be UTF-8
    throw failure({where_, "cannot be written: a name or metadata is no UTF-8 text", {}, {}});
  }
  file_.write(as_bytes(header));
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  if (next_ == order_.size()) throw failure({where_, "cannot be written: more tensors than its header names", {}, {}});
  const auto& tensor = tensors_[order_[next_++]];
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape, where_);
  if (static_cast<int64_t>(data.size()) != bytes) {
    throw failure({where_ + ": " + tensor.name, "cannot be written: wrong size", fmt::format("{} bytes", bytes),
                   fmt::format("{} bytes", data.size())});
  }
  file_.write(data);
}

void SafetensorsWriter::finish() {
  if (next_ != order_.size()) {
    throw failure({where_ + ": " + tensors_[order_[next_]].name, "cannot be written: tensor was not given", {}, {}});
  }
  file_.commit();
}

}  // namespace nextscale
