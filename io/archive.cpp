#include "nextscale/io/archive.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/gzip.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/io/unpacked.h"

namespace nextscale {
namespace {

constexpr size_t kArchivePieceBytes = size_t{1} << 18;
constexpr size_t kMostPadding = size_t{64} << 20;  // zeros behind the end marker fill a record, usually of 10 kB

/// What libarchive reads from: the bytes themselves, or gzip decompressed piece by piece. Our own GzipReader, because
/// libarchive's does not compare checksums, and a tar has none of its own for content.
class Source {
 public:
  Source(std::span<const std::byte> bytes, const std::string& where) : plain_(bytes), total_(bytes.size()) {
    if (!is_gzip(bytes)) return;
    gzip_.emplace(bytes, where);
    buffer_.resize(kArchivePieceBytes);
  }

  /// libarchive's callback. An exception must not pass through C: it is kept and thrown again behind it.
  static la_ssize_t read(::archive* reader, void* self, const void** bytes) {
    auto* source = static_cast<Source*>(self);
    try {
      const auto piece = source->next();
      *bytes = piece.data();
      return static_cast<la_ssize_t>(piece.size());
    } catch (...) {
      source->error_ = std::current_exception();
      archive_set_error(reader, EIO, "source failed");
      return -1;
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }
  /// Reads what follows the archive's end, so that gzip's checksum is compared. @returns all bytes of content, or
  /// nothing if there is far more than padding
  std::optional<uint64_t> drain() {
    if (!gzip_) return total_;
    for (size_t read = 0; read <= kMostPadding; read += kArchivePieceBytes) {
      if (next().empty()) return gzip_->position();
    }
    return {};
  }

 private:
  std::span<const std::byte> next() {
    if (!gzip_) return std::exchange(plain_, {});  // all at once, so that content can be pointed into
    return {buffer_.data(), gzip_->read(buffer_)};
  }

  std::span<const std::byte> plain_;
  uint64_t total_;
  std::optional<GzipReader> gzip_;
  std::vector<std::byte> buffer_;
  std::exception_ptr error_;
};

struct FreeReader {
  void operator()(::archive* reader) const { archive_read_free(reader); }
};
using Reader = std::unique_ptr<::archive, FreeReader>;

Error damaged(const Reader& reader, const Source& source, const std::string& where) {
  source.rethrow();
  const char* text = archive_error_string(reader.get());
  return failure({where, fmt::format("tar archive is damaged: {}", text != nullptr ? text : "unknown reason"), {}, {}});
}

std::string entry_name(archive_entry* entry, const std::string& where) {
  // In the C locale libarchive has a name in only one of the two forms: as UTF-8 (pax headers) or as bytes (ustar,
  // GNU).
  const char* text = archive_entry_pathname_utf8(entry);
  if (text == nullptr) text = archive_entry_pathname(entry);
  if (text == nullptr) throw failure({where, "name of an entry cannot be read", {}, {}});
  std::string_view name = text;
  while (name.substr(0, 2) == "./") name.remove_prefix(2);
  return std::string(name);
}

/// Content of the present entry: pointed into `whole` where libarchive gives it in one piece from there, else in
/// `buffer`.
std::span<const std::byte> entry_content(const Reader& reader, const Source& source, std::span<const std::byte> whole,
                                         std::vector<std::byte>& buffer, archive_entry* entry,
                                         const std::string& where) {
  buffer.clear();
  std::span<const std::byte> in_place;
  const std::less_equal<const std::byte*> not_after;
  for (;;) {
    const void* block = nullptr;
    size_t count = 0;
    la_int64_t offset = 0;
    const int result = archive_read_data_block(reader.get(), &block, &count, &offset);
    if (result == ARCHIVE_EOF) break;
    if (result < ARCHIVE_WARN) throw damaged(reader, source, where);
    if (count == 0) continue;
    const std::span piece(static_cast<const std::byte*>(block), count);
    const auto have = in_place.size() + buffer.size();
    if (static_cast<la_int64_t>(have) != offset) throw failure({where, "sparse entries cannot be read", {}, {}});
    if (count > static_cast<size_t>(kArchiveEntryLimit) - have) {
      throw failure({where, "entry is too large", "at most " + bytes_text(kArchiveEntryLimit), {}});
    }
    const bool inside =
        not_after(whole.data(), piece.data()) && not_after(piece.data() + count, whole.data() + whole.size());
    if (have == 0 && inside) {
      in_place = piece;
      continue;
    }
    buffer.insert(buffer.end(), in_place.begin(), in_place.end());
    in_place = {};
    buffer.insert(buffer.end(), piece.begin(), piece.end());
  }
  const auto content = in_place.empty() ? std::span<const std::byte>(buffer) : in_place;
  if (archive_entry_sparse_count(entry) > 0 || static_cast<la_int64_t>(content.size()) != archive_entry_size(entry)) {
    throw failure({where, "sparse entries cannot be read", fmt::format("{} bytes", archive_entry_size(entry)),
                   fmt::format("{} bytes", content.size())});
  }
  return content;
}

/// @param content may point into the archive; else it is `buffer`, from which it may be moved
using Visit =
    std::function<void(std::string& name, std::span<const std::byte> content, std::vector<std::byte>& buffer)>;

void walk(std::span<const std::byte> bytes, const std::string& where, const Visit& visit) {
  Source source(bytes, where);
  const Reader reader(archive_read_new());
  if (!reader || archive_read_support_format_tar(reader.get()) != ARCHIVE_OK) {
    throw failure({where, "libarchive cannot read tar archives", {}, {}});
  }
  if (archive_read_open(reader.get(), &source, nullptr, Source::read, nullptr) != ARCHIVE_OK) {
    throw damaged(reader, source, where);
  }
  std::vector<std::byte> buffer;
  for (;;) {
    archive_entry* entry = nullptr;
    const int result = archive_read_next_header(reader.get(), &entry);
    if (result == ARCHIVE_EOF) break;
    if (result < ARCHIVE_WARN) throw damaged(reader, source, where);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) continue;
    auto name = entry_name(entry, where);
    const auto content = entry_content(reader, source, bytes, buffer, entry, where + ": " + name);
    visit(name, content, buffer);
  }
  // libarchive takes an archive that stops between two entries for whole; the end marker tells
  const auto total = source.drain();
  if (!total) throw failure({where, "tar archive is followed by something else", {}, {}});
  if (static_cast<uint64_t>(archive_read_header_position(reader.get())) >= *total) {
    throw failure({where, "tar archive is cut off: its end marker is missing", {}, {}});
  }
}

SharedBytes unpack_archive(std::span<const std::byte> compressed, const std::string& where) {
  GzipReader reader(compressed, where);
  auto whole = unpack(reader, uint64_t{kArchiveUnpackedLimit}, where);
  std::byte beyond{};
  if (reader.read({&beyond, 1}) != 0) {
    throw failure({where, "decompressed archive is too large", "at most " + bytes_text(kArchiveUnpackedLimit), {}});
  }
  return whole;
}

}  // namespace

bool is_archive_name(const std::filesystem::path& path) {
  auto name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto ends = [&name](std::string_view end) {
    return name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  return ends(".tar") || ends(".tar.gz") || ends(".tgz");
}

void for_each_entry(std::span<const std::byte> archive, const std::string& where, const EntryFunction& entry) {
  walk(archive, where, [&entry](std::string& name, std::span<const std::byte> content, std::vector<std::byte>&) {
    entry(name, content);
  });
}

void for_each_entry(const std::filesystem::path& path, const EntryFunction& entry) {
  const auto file = map_file(path);
  for_each_entry(file.bytes, path.string(), entry);
}

TarIndex::TarIndex(const std::filesystem::path& path) : TarIndex(map_file(path), path.string()) {}

TarIndex::TarIndex(SharedBytes archive, const std::string& where) {
  const auto whole = is_gzip(archive.bytes) ? unpack_archive(archive.bytes, where) : std::move(archive);
  walk(whole.bytes, where, [&](std::string& name, std::span<const std::byte> content, std::vector<std::byte>& buffer) {
    if (buffer.empty()) {
      entries_.push_back({std::move(name), {whole.owner, content}});
      return;
    }
    const auto own = std::make_shared<const std::vector<std::byte>>(std::move(buffer));
    buffer = {};
    entries_.push_back({std::move(name), {own, *own}});
  });
}

}  // namespace nextscale
