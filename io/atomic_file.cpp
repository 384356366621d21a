#include "nextscale/io/atomic_file.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// Some file systems cannot sync a folder and say so with EINVAL; there is nothing better to do on them.
bool folder_without_sync(const std::filesystem::path& path, int code) {
  return code == EINVAL && std::filesystem::is_directory(path);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target, FileOperations& operations)
    : target_(std::move(target)), operations_(operations) {
  std::error_code ignored;
  const auto status = std::filesystem::status(target_, ignored);
  // renaming over /dev/null would succeed for root, and take it from the whole machine
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw failure({target_.string(), "cannot be replaced", "a regular file",
                   std::filesystem::is_directory(status) ? "a folder" : "a pipe or device"});
  }
  part_ = folder_of(target_) / ("." + target_.filename().string() + "." + std::to_string(::getpid()) + ".part");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) operations_.close(descriptor_);
  if (!committed_) operations_.remove_all(part_);
}

void AtomicFile::open(int flags) {
  descriptor_ = operations_.open(part_, flags, 0666);
  if (descriptor_ < 0) throw system_failure(target_, "cannot be written", errno);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) open(O_WRONLY | O_CREAT | O_TRUNC);
  while (!bytes.empty()) {
    const auto written = operations_.write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw system_failure(target_, "cannot be written", written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::commit(Sync sync) {
  if (descriptor_ < 0) open(O_WRONLY);  // written by somebody else
  if (sync == Sync::now && operations_.fsync(descriptor_) != 0)
    throw system_failure(target_, "cannot be written", errno);
  // close() may report a write that failed late (network file systems)
  if (operations_.close(std::exchange(descriptor_, -1)) != 0) throw system_failure(target_, "cannot be written", errno);
  if (operations_.rename(part_, target_) != 0) throw system_failure(target_, "cannot be put in its place", errno);
  committed_ = true;
  if (sync == Sync::now) sync_to_disk(folder_of(target_), operations_);
}

void write_text_atomically(const std::filesystem::path& path, std::string_view text, FileOperations& operations) {
  AtomicFile file(path, operations);
  file.write(as_bytes(text));
  file.commit();
}

std::string read_text(const std::filesystem::path& path) {
  return std::string(as_text(MappedFile::open(path)->bytes()));
}

void sync_file_system(const std::filesystem::path& folder, FileOperations& operations) {
  const int descriptor = operations.open(folder, O_RDONLY, 0);
  if (descriptor < 0) throw system_failure(folder, "cannot be written to disk", errno);
  const int synced = operations.sync_file_system(descriptor);
  const int code = errno;
  operations.close(descriptor);
  if (synced != 0) throw system_failure(folder, "cannot be written to disk", code);
}

void sync_to_disk(const std::filesystem::path& path, FileOperations& operations) {
  const int descriptor = operations.open(path, O_RDONLY, 0);
  if (descriptor < 0) throw system_failure(path, "cannot be written to disk", errno);
  const int synced = operations.fsync(descriptor);
  const int code = errno;
  operations.close(descriptor);
  if (synced != 0 && !folder_without_sync(path, code)) throw system_failure(path, "cannot be written to disk", code);
}

}  // namespace nextscale
