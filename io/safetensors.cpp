#include "nextscale/io/safetensors.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"

namespace nextscale {
namespace {

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<DtypeRow, 13> kDtypes{{{Dtype::f64, "F64", 8},
                                            {Dtype::f32, "F32", 4},
                                            {Dtype::f16, "F16", 2},
                                            {Dtype::bf16, "BF16", 2},
                                            {Dtype::i64, "I64", 8},
                                            {Dtype::i32, "I32", 4},
                                            {Dtype::i16, "I16", 2},
                                            {Dtype::i8, "I8", 1},
                                            {Dtype::u64, "U64", 8},
                                            {Dtype::u32, "U32", 4},
                                            {Dtype::u16, "U16", 2},
                                            {Dtype::u8, "U8", 1},
                                            {Dtype::boolean, "BOOL", 1}}};

const DtypeRow& row(Dtype dtype) { return kDtypes.at(static_cast<size_t>(dtype)); }

struct HeaderEntry {
  std::string name;
  std::optional<Dtype> dtype;
  std::optional<std::vector<int64_t>> shape, offsets;
};

/// Takes the header event by event and stops at the first thing that does not belong there, so a hostile header costs
/// no memory beyond its own valid part, nests no deeper than the format and cannot name a key twice.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(const std::string& where) : where_(where) {}

  std::vector<HeaderEntry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a truth value"); }
  bool number_integer(number_integer_t value) override { return refuse(fmt::format("{}", value)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse(text); }
  bool binary(binary_t&) override { return refuse("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::numbers) return refuse(fmt::format("{}", value));
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max())) {
      return refuse(fmt::format("{}", value));
    }
    if (numbers_->size() >= kSafetensorsDimensionLimit) {
      throw failure({here(), "too many numbers", fmt::format("at most {}", kSafetensorsDimensionLimit), {}});
    }
    numbers_->push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::metadata_value) {
      metadata[key_] = value;
      state_ = State::metadata;
      return true;
    }
    if (state_ != State::dtype_value) return refuse("a text");
    const auto dtype = dtype_from_name(value);
    if (!dtype) throw failure({here(), "unknown dtype", dtype_names(), value});
    entries.back().dtype = dtype;
    state_ = State::entry;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::start) {
      state_ = State::header;
    } else if (state_ == State::header_value) {
      fields_.clear();
      if (key_ == "__metadata__") {
        state_ = State::metadata;
      } else {
        entries.push_back({.name = key_, .dtype = {}, .shape = {}, .offsets = {}});
        state_ = State::entry;
      }
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (state_ == State::header) {
      if (!names_.insert(value).second) throw failure({where_ + ": " + value, "entry comes twice", {}, {}});
      key_ = value;
      state_ = State::header_value;
      return true;
    }
    if (!fields_.insert(value).second) throw failure({here(), "key comes twice", {}, value});
    if (state_ == State::metadata) {
      key_ = value;
      state_ = State::metadata_value;
    } else if (value == "dtype") {
      state_ = State::dtype_value;
    } else if (value == "shape") {
      numbers_ = &entries.back().shape.emplace();
      state_ = State::array;
    } else if (value == "data_offsets") {
      numbers_ = &entries.back().offsets.emplace();
      state_ = State::array;
    } else {
      throw failure({here(), "unknown key", "dtype, shape or data_offsets", value});
    }
    return true;
  }

  bool end_object() override {
    // metadata and entry lie in the header, the header in nothing: after its end the parser allows only spaces
    state_ = state_ == State::header ? State::end : State::header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ != State::array) return refuse("a list");
    state_ = State::numbers;
    return true;
  }

  bool end_array() override {
    state_ = State::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw failure({where_, fmt::format("header is no valid JSON at byte {}", position), {}, {}});
  }

 private:
  enum class State { start, header, header_value, metadata, metadata_value, entry, dtype_value, array, numbers, end };

  std::string here() const {
    const bool in_entry = !entries.empty() && state_ != State::metadata && state_ != State::metadata_value &&
                          state_ != State::header_value && state_ != State::start;
    return where_ + ": " + (in_entry ? entries.back().name : key_.empty() ? "header" : key_);
  }
  bool refuse(const std::string& got) const {
    static constexpr const char* kExpected[] = {
        "an object",           "a name", "an object", "a name", "a text", "a key", "a dtype", "a list of numbers",
        "a number below 2^63", "nothing"};
    throw failure({here(), "header is not as the format says", kExpected[static_cast<size_t>(state_)], got});
  }
  static std::string dtype_names() {
    std::string names;
    for (const auto& each : kDtypes) names += (names.empty() ? "one of " : ", ") + std::string(each.name);
    return names;
  }

  const std::string& where_;
  State state_ = State::start;
  std::string key_;
  std::unordered_set<std::string> names_, fields_;
  std::vector<int64_t>* numbers_ = nullptr;
};

/// The entry's bytes within [begin, …) of the data part.
void check_entry(const HeaderEntry& entry, int64_t data_bytes, const std::string& where) {
  const auto here = where + ": " + entry.name;
  if (!entry.dtype) throw failure({here, "dtype is missing", {}, {}});
  if (!entry.shape) throw failure({here, "shape is missing", {}, {}});
  if (!entry.offsets) throw failure({here, "data_offsets are missing", {}, {}});
  const auto& offsets = *entry.offsets;
  if (offsets.size() != 2) {
    throw failure({here, "data_offsets are wrong", "2 numbers", fmt::format("{}", offsets.size())});
  }
  const auto found = fmt::format("{} to {}", offsets[0], offsets[1]);
  if (offsets[1] < offsets[0]) throw failure({here, "data_offsets are wrong", "begin <= end", found});
  if (offsets[1] > data_bytes) {
    throw failure({here, "data lies outside the file", fmt::format("at most {} bytes of data", data_bytes), found});
  }
  const auto bytes = tensor_bytes(*entry.dtype, *entry.shape, here);
  if (bytes != offsets[1] - offsets[0]) {
    throw failure({here, "data has the wrong size",
                   fmt::format("{} bytes for {} {}", bytes, dtype_name(*entry.dtype), shape_text(*entry.shape)),
                   fmt::format("{} bytes", offsets[1] - offsets[0])});
  }
}

}  // namespace

int64_t item_bytes(Dtype dtype) { return row(dtype).bytes; }
std::string_view dtype_name(Dtype dtype) { return row(dtype).name; }

std::optional<Dtype> dtype_from_name(std::string_view name) {
  for (const auto& each : kDtypes) {
    if (each.name == name) return each.dtype;
  }
  return {};
}

int64_t tensor_bytes(Dtype dtype, std::span<const int64_t> shape, const std::string& where) {
  int64_t nonzero = item_bytes(dtype);  // strides are made of the non-zero sizes, so they too must fit
  bool empty = false;
  for (const auto size : shape) {
    if (size < 0) throw failure({where, "shape has a negative size", {}, shape_text(shape)});
    if (size == 0) {
      empty = true;
    } else if (!checked_multiply(nonzero, size, &nonzero)) {
      throw failure({where, "shape is too large", "less than 2^63 bytes", shape_text(shape)});
    }
  }
  return empty ? 0 : nonzero;
}

SafetensorsFile parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  ByteCursor cursor(file, where);
  const uint64_t header_bytes = cursor.u64_little_endian("length of the header");
  const uint64_t most = std::min<uint64_t>(cursor.left(), kSafetensorsHeaderLimit);
  if (header_bytes > most) {
    throw failure({where, "not a safetensors file: length of the header", fmt::format("at most {} bytes", most),
                   fmt::format("{} bytes", header_bytes)});
  }
  const auto header = as_text(cursor.take(static_cast<size_t>(header_bytes), "header"));
  if (header.empty() || header[0] != '{') {
    throw failure(
        {where, "not a safetensors file: header", "an object", header.empty() ? "nothing" : "something else"});
  }
  HeaderHandler handler(where);
  nlohmann::json::sax_parse(header.begin(), header.end(), &handler);

  const auto data = cursor.take(cursor.left(), "data");
  const auto data_bytes = static_cast<int64_t>(data.size());
  for (const auto& entry : handler.entries) check_entry(entry, data_bytes, where);
  std::vector<const HeaderEntry*> by_data;
  for (const auto& entry : handler.entries) by_data.push_back(&entry);
  // by (begin, end): empty tensors share their begin with the next one and come before it
  std::sort(by_data.begin(), by_data.end(), [](const auto* a, const auto* b) { return *a->offsets < *b->offsets; });
  int64_t end = 0;
  for (const auto* entry : by_data) {
    const auto begin = entry->offsets->at(0);
    if (begin != end) {
      throw failure({where + ": " + entry->name, begin < end ? "data overlaps another entry's" : "gap before the data",
                     fmt::format("begin at {}", end), fmt::format("{}", begin)});
    }
    end = entry->offsets->at(1);
  }
  if (end != data_bytes) {
    throw failure(
        {where, "data has the wrong size", fmt::format("{} bytes", end), fmt::format("{} bytes", data_bytes)});
  }

  SafetensorsFile result;
  result.metadata = std::move(handler.metadata);
  for (auto& entry : handler.entries) {
    const auto begin = static_cast<size_t>(entry.offsets->at(0)),
               count = static_cast<size_t>(entry.offsets->at(1)) - begin;
    result.entries.push_back(
        {std::move(entry.name), *entry.dtype, std::move(*entry.shape), data.subspan(begin, count)});
  }
  return result;
}

}  // namespace nextscale
