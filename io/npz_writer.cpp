#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <zlib.h>

#include "nextscale/base/error.h"
#include "nextscale/io/npz.h"

// A zip file in APPNOTE.TXT's words. The checksum of a member is known only behind it, and files are written forward
// only: so it stands in a data descriptor there (bit 3) and in the central directory, where numpy and unzip look.
namespace nextscale {
namespace {

constexpr uint32_t kFull = 0xFFFFFFFF;   // "see the zip64 field"
constexpr uint16_t kFullShort = 0xFFFF;  // the same of counts
constexpr uint16_t kDescriptorFlag = 1 << 3;
constexpr uint16_t kPlain = 20, kZip64 = 45;  // versions needed
constexpr uint16_t kDate = 1 << 5 | 1;        // 1980-01-01: the same bytes whenever they are written
constexpr uint16_t kRegularFile = 0100644;

/// Little-endian fields one after another.
class Fields {
 public:
  Fields& u16(uint64_t value) { return add(value, 2); }
  Fields& u32(uint64_t value) { return add(value, 4); }
  Fields& u64(uint64_t value) { return add(value, 8); }
  Fields& text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  std::span<const std::byte> bytes() const { return as_bytes(bytes_); }
  const std::string& string() const { return bytes_; }

 private:
  Fields& add(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xFF);
    return *this;
  }
  std::string bytes_;
};

bool needs_zip64(uint64_t number) { return number >= kFull; }
uint64_t or_full(uint64_t number) { return needs_zip64(number) ? kFull : number; }

Fields local_header(const std::string& name, uint64_t size) {
  const bool big = needs_zip64(size);
  Fields fields;
  fields.u32(0x04034B50).u16(big ? kZip64 : kPlain).u16(kDescriptorFlag).u16(0).u16(0).u16(kDate);
  // checksum and sizes follow in the descriptor; the zip64 field says that they have 8 bytes there
  fields.u32(0).u32(big ? kFull : 0).u32(big ? kFull : 0).u16(name.size()).u16(big ? 20 : 0).text(name);
  if (big) fields.u16(1).u16(16).u64(0).u64(0);
  return fields;
}

Fields descriptor(uint32_t crc, uint64_t size) {
  Fields fields;
  fields.u32(0x08074B50).u32(crc);
  needs_zip64(size) ? fields.u64(size).u64(size) : fields.u32(size).u32(size);
  return fields;
}

Fields central_header(const std::string& name, uint64_t size, uint64_t offset, uint32_t crc) {
  Fields extra;
  if (needs_zip64(size)) extra.u64(size).u64(size);
  if (needs_zip64(offset)) extra.u64(offset);
  const auto more = extra.string().size();
  const uint16_t version = more > 0 ? kZip64 : kPlain;
  Fields fields;
  fields.u32(0x02014B50).u16(3 << 8 | version).u16(version).u16(kDescriptorFlag).u16(0).u16(0).u16(kDate);
  fields.u32(crc).u32(or_full(size)).u32(or_full(size)).u16(name.size()).u16(more > 0 ? more + 4 : 0);
  fields.u16(0).u16(0).u16(0).u32(uint32_t{kRegularFile} << 16).u32(or_full(offset)).text(name);
  if (more > 0) fields.u16(1).u16(more).text(extra.string());
  return fields;
}

Fields end_of_directory(uint64_t count, uint64_t begin, uint64_t end) {
  const auto size = end - begin;
  Fields fields;
  if (count >= kFullShort || needs_zip64(begin) || needs_zip64(size)) {
    fields.u32(0x06064B50).u64(44).u16(3 << 8 | kZip64).u16(kZip64).u32(0).u32(0);
    fields.u64(count).u64(count).u64(size).u64(begin);
    fields.u32(0x07064B50).u32(0).u64(end).u32(1);
  }
  const auto shown = count >= kFullShort ? kFullShort : count;
  fields.u32(0x06054B50).u16(0).u16(0).u16(shown).u16(shown).u32(or_full(size)).u32(or_full(begin)).u16(0);
  return fields;
}

uint32_t crc_of(uint32_t before, std::span<const std::byte> bytes) {
  constexpr size_t kAtOnce = std::numeric_limits<uInt>::max() / 2;  // zlib counts in 32 bits
  uLong crc = before;
  while (!bytes.empty()) {
    const auto now = bytes.first(std::min(bytes.size(), kAtOnce));
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(now.data()), static_cast<uInt>(now.size()));
    bytes = bytes.subspan(now.size());
  }
  return static_cast<uint32_t>(crc);
}

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 1000 || name[0] == '/' || name.find("..") != std::string::npos) return false;
  for (const unsigned char c : name) {
    if (c < 0x21 || c >= 0x7F || c == '\\' || c == ':') return false;
  }
  return true;
}

}  // namespace

NpzWriter::NpzWriter(const std::filesystem::path& path, FileOperations& operations)
    : where_(path.string()), file_(path, operations) {}

void NpzWriter::begin(const std::string& name, Dtype dtype, const std::vector<int64_t>& shape) {
  end_member();
  const auto here = where_ + ": " + name;
  if (!is_name(name)) throw failure({here, "cannot be written: not a name for an array", "printable ASCII", {}});
  if (!names_.insert(name).second) throw failure({here, "cannot be written: array comes twice", {}, {}});
  const auto header = npy_header(dtype, shape, here);
  const auto values = static_cast<uint64_t>(tensor_bytes(dtype, shape, here));
  members_.push_back({.name = name + ".npy", .offset = position_, .size = header.size() + values, .crc = 0});
  put(local_header(members_.back().name, members_.back().size).bytes());
  left_ = values;
  put_content(as_bytes(header));
}

void NpzWriter::write(std::span<const std::byte> values) {
  if (values.size() > left_) {
    throw failure({here(), "cannot be written: more values than its shape says", fmt::format("{} bytes more", left_),
                   fmt::format("{} bytes", values.size())});
  }
  put_content(values);
  left_ -= values.size();
}

void NpzWriter::finish() {
  end_member();
  const auto begin = position_;
  for (const auto& member : members_) {
    put(central_header(member.name, member.size, member.offset, member.crc).bytes());
  }
  put(end_of_directory(members_.size(), begin, position_).bytes());
  file_.commit();
}

void NpzWriter::put(std::span<const std::byte> bytes) {
  file_.write(bytes);
  position_ += bytes.size();
}

void NpzWriter::put_content(std::span<const std::byte> bytes) {
  put(bytes);
  if (!members_.empty()) members_.back().crc = crc_of(members_.back().crc, bytes);
}

void NpzWriter::end_member() {
  if (left_ > 0)
    throw failure({here(), "cannot be written: values are missing", {}, fmt::format("{} bytes less", left_)});
  if (!members_.empty()) put(descriptor(members_.back().crc, members_.back().size).bytes());
}

std::string NpzWriter::here() const {
  return members_.empty() ? where_ : where_ + ": " + members_.back().name.substr(0, members_.back().name.size() - 4);
}

}  // namespace nextscale
