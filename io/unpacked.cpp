#include "nextscale/io/unpacked.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 18;

/// A file without a name: gone when nobody has it open or mapped, also after a kill.
class NamelessFile {
 public:
  explicit NamelessFile(const std::string& where) : where_(where) {
    const char* named = std::getenv("TMPDIR");
    folder_ = named != nullptr && *named != '\0' ? named : "/tmp";
    std::string name = (folder_ / "nextscale.XXXXXX").string();
    descriptor_ = ::mkostemp(name.data(), 0);
    if (descriptor_ < 0) throw failed(errno);
    ::unlink(name.c_str());
  }
  ~NamelessFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  NamelessFile(const NamelessFile&) = delete;
  NamelessFile& operator=(const NamelessFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) throw failed(written < 0 ? errno : ENOSPC);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }
  /// Takes the room of `size` bytes and maps them for writing.
  WritableBytes writable(size_t size) const {
    if (const int code = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(size)); code != 0) throw failed(code);
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
    if (address == MAP_FAILED) throw failed(errno);
    const std::shared_ptr<const void> owner(address, [size](void* mapped) { ::munmap(mapped, size); });
    return {owner, {static_cast<std::byte*>(address), size}};
  }
  SharedBytes map() const {
    const auto mapped = MappedFile::of_descriptor(descriptor_, folder_);
    return {mapped, mapped->bytes()};
  }

 private:
  Error failed(int code) const {
    return failure({where_, fmt::format("cannot be unpacked into {} (TMPDIR names another folder): {}",
                                        folder_.string(), std::generic_category().message(code))});
  }
  const std::string& where_;
  std::filesystem::path folder_;
  int descriptor_ = -1;
};

}  // namespace

WritableBytes room_for(uint64_t size, const std::string& where, size_t in_memory) {
  if (size > in_memory) return NamelessFile(where).writable(static_cast<size_t>(size));
  const auto buffer = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(size));
  return {buffer, *buffer};
}

SharedBytes unpack(GzipReader& reader, uint64_t most, const std::string& where, size_t in_memory) {
  auto head = std::make_shared<std::vector<std::byte>>();
  const auto limit = static_cast<size_t>(std::min<uint64_t>(most, in_memory));
  for (bool more = true; more && head->size() < limit;) {
    const auto before = head->size();
    head->resize(std::min(limit, before + std::max(kPieceBytes, before)));
    const auto got = reader.read(std::span(*head).subspan(before));
    more = before + got == head->size();
    head->resize(before + got);
  }
  std::vector<std::byte> piece(std::min<uint64_t>(kPieceBytes, most - head->size()));
  auto got = head->size() < limit ? 0 : reader.read(piece);
  if (got == 0) return {head, *head};

  NamelessFile file(where);
  file.write(*head);
  auto left = most - head->size();
  head.reset();
  while (got > 0) {
    file.write(std::span(piece).first(got));
    left -= got;
    got = reader.read(std::span(piece).first(std::min<uint64_t>(piece.size(), left)));
  }
  return file.map();
}

}  // namespace nextscale
