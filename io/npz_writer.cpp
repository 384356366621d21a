#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/npz.h"

namespace nextscale {
namespace {

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 1000 || name[0] == '/' || name.find("..") != std::string::npos) return false;
  for (const unsigned char c : name) {
    if (c < 0x21 || c >= 0x7F || c == '\\' || c == ':') return false;
  }
  return true;
}

}  // namespace

NpzWriter::NpzWriter(const std::filesystem::path& path, FileOperations& operations)
    : where_(path.string()), zip_(path, operations) {}

void NpzWriter::begin(const std::string& name, Dtype dtype, const std::vector<int64_t>& shape) {
  require_whole();
  const auto here = where_ + ": " + name;
  if (!is_name(name)) throw failure({here, "cannot be written: not a name for an array", "printable ASCII", {}});
  if (!names_.insert(name).second) throw failure({here, "cannot be written: array comes twice", {}, {}});
  const auto header = npy_header(dtype, shape, here);
  left_ = static_cast<uint64_t>(tensor_bytes(dtype, shape, here));
  array_ = name;
  zip_.begin(name + ".npy", header.size() + left_);
  zip_.write(as_bytes(header));
}

void NpzWriter::write(std::span<const std::byte> values) {
  if (values.size() > left_) {
    throw failure({here(), "cannot be written: more values than its shape says", fmt::format("{} bytes more", left_),
                   fmt::format("{} bytes", values.size())});
  }
  zip_.write(values);
  left_ -= values.size();
}

void NpzWriter::finish() {
  require_whole();
  zip_.finish();
}

void NpzWriter::require_whole() const {
  if (left_ > 0) {
    throw failure({here(), "cannot be written: values are missing", {}, fmt::format("{} bytes less", left_)});
  }
}

std::string NpzWriter::here() const { return array_.empty() ? where_ : where_ + ": " + array_; }

}  // namespace nextscale
