#include "nextscale/io/zip_writer.h"

#include <algorithm>

#include <fmt/format.h>
#include <zlib.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"

// The checksum of an entry is known only behind its content, and files are written forward only: so it stands in a data
// descriptor there (bit 3 of the flags) and in the central directory, where readers look.
namespace nextscale {
namespace {

constexpr uint64_t kFull = 0xFFFFFFFF, kFullShort = 0xFFFF;  // "see the zip64 field"
constexpr uint64_t kFlags = 1 << 3 | 1 << 11;                // data descriptor, names are UTF-8
constexpr uint64_t kPlainVersion = 20, kZip64Version = 45;   // versions needed
constexpr uint64_t kMadeBy = 3 << 8, kMode = 0100644;        // a regular file of Unix
constexpr uint64_t kDate = 1 << 5 | 1;                       // 1980-01-01
constexpr uint64_t kZip64Field = 1, kPaddingField = 0x4246;  // "FB", as PyTorch pads

/// Little-endian fields one after another.
struct Fields {
  std::string bytes;
  Fields& add(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
    return *this;
  }
  Fields& u16(uint64_t value) { return add(value, 2); }
  Fields& u32(uint64_t value) { return add(value, 4); }
  Fields& u64(uint64_t value) { return add(value, 8); }
  Fields& text(const std::string& text) {
    bytes += text;
    return *this;
  }
};

bool is_big(uint64_t number) { return number >= kFull; }
uint64_t or_full(uint64_t number) { return std::min(number, kFull); }

/// @param offset  where the header will stand
std::string local_header(const std::string& name, uint64_t size, uint64_t offset, uint64_t alignment) {
  Fields extra;
  // says too that the descriptor's sizes have 8 bytes
  if (is_big(size)) extra.u16(kZip64Field).u16(16).u64(size).u64(size);
  constexpr uint64_t kHeader = 30, kFieldHeader = 4;
  const auto content = offset + kHeader + name.size() + extra.bytes.size();
  if (content % alignment != 0) {
    const auto padding = alignment - (content + kFieldHeader) % alignment;
    extra.u16(kPaddingField).u16(padding).text(std::string(padding, '\0'));
  }
  Fields fields;
  fields.u32(0x04034B50).u16(is_big(size) ? kZip64Version : kPlainVersion).u16(kFlags).u16(0).u16(0).u16(kDate).u32(0);
  fields.u32(is_big(size) ? kFull : 0).u32(is_big(size) ? kFull : 0).u16(name.size()).u16(extra.bytes.size());
  return fields.text(name).text(extra.bytes).bytes;
}

std::string descriptor(uint32_t crc, uint64_t size) {
  Fields fields;
  const int width = is_big(size) ? 8 : 4;
  return fields.u32(0x08074B50).u32(crc).add(size, width).add(size, width).bytes;
}

std::string directory_header(const std::string& name, uint64_t size, uint64_t offset, uint32_t crc) {
  Fields values, extra;
  if (is_big(size)) values.u64(size).u64(size);
  if (is_big(offset)) values.u64(offset);
  if (!values.bytes.empty()) extra.u16(kZip64Field).u16(values.bytes.size()).text(values.bytes);
  const auto version = extra.bytes.empty() ? kPlainVersion : kZip64Version;
  Fields fields;
  fields.u32(0x02014B50).u16(kMadeBy | version).u16(version).u16(kFlags).u16(0).u16(0).u16(kDate).u32(crc);
  fields.u32(or_full(size)).u32(or_full(size)).u16(name.size()).u16(extra.bytes.size()).u16(0).u16(0).u16(0);
  return fields.u32(kMode << 16).u32(or_full(offset)).text(name).text(extra.bytes).bytes;
}

std::string end_of_directory(uint64_t count, uint64_t begin, uint64_t end) {
  const auto size = end - begin;
  Fields fields;
  if (count >= kFullShort || is_big(begin) || is_big(size)) {
    fields.u32(0x06064B50).u64(44).u16(kMadeBy | kZip64Version).u16(kZip64Version).u32(0).u32(0).u64(count).u64(count);
    fields.u64(size).u64(begin).u32(0x07064B50).u32(0).u64(end).u32(1);
  }
  const auto shown = std::min(count, kFullShort);
  fields.u32(0x06054B50).u16(0).u16(0).u16(shown).u16(shown).u32(or_full(size)).u32(or_full(begin)).u16(0);
  return fields.bytes;
}

}  // namespace

ZipWriter::ZipWriter(const std::filesystem::path& path, FileOperations& operations)
    : where_(path.string()), file_(path, operations) {}

void ZipWriter::begin(const std::string& name, uint64_t size, uint64_t alignment) {
  end_entry();
  if (name.size() > kFullShort) throw failure({where_, "cannot be written: a name is too long", {}, {}});
  if (!names_.insert(name).second) {
    throw failure({where_ + ": " + name, "cannot be written: entry comes twice", {}, {}});
  }
  entries_.push_back({name, position_, size, 0});
  left_ = size;
  put(local_header(name, size, position_, alignment));
}

void ZipWriter::write(std::span<const std::byte> content) {
  if (content.size() > left_) {
    throw failure({here(), "cannot be written: more content than announced", fmt::format("{} bytes more", left_),
                   fmt::format("{} bytes", content.size())});
  }
  file_.write(content);
  position_ += content.size();
  left_ -= content.size();
  if (content.empty()) return;  // zlib takes a null pointer for "begin anew"
  auto& crc = entries_.back().crc;
  crc = static_cast<uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(content.data()), content.size()));
}

void ZipWriter::add(const std::string& name, std::span<const std::byte> content, uint64_t alignment) {
  begin(name, content.size(), alignment);
  write(content);
}

void ZipWriter::finish() {
  end_entry();
  const auto begin = position_;
  for (const auto& entry : entries_) put(directory_header(entry.name, entry.size, entry.offset, entry.crc));
  put(end_of_directory(entries_.size(), begin, position_));
  file_.commit();
}

void ZipWriter::put(const std::string& bytes) {
  file_.write(as_bytes(bytes));
  position_ += bytes.size();
}

void ZipWriter::end_entry() {
  if (left_ > 0) {
    throw failure({here(), "cannot be written: content is missing", {}, fmt::format("{} bytes less", left_)});
  }
  if (!entries_.empty()) put(descriptor(entries_.back().crc, entries_.back().size));
}

std::string ZipWriter::here() const { return entries_.empty() ? where_ : where_ + ": " + entries_.back().name; }

}  // namespace nextscale
