#include "nextscale/train/metrics_log.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

/// Closes on every way out.
class Descriptor {
 public:
  Descriptor(int value, FileOperations& operations) : value_(value), operations_(operations) {}
  ~Descriptor() {
    if (value_ >= 0) operations_.close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  /// close() may report a write that failed late (network file systems).
  int close() { return operations_.close(std::exchange(value_, -1)); }

 private:
  int value_;
  FileOperations& operations_;
};

bool ends_torn(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || status.st_size == 0) return false;
  char last = '\n';
  return pread(descriptor, &last, 1, status.st_size - 1) == 1 && last != '\n';
}

/// Nothing for a torn line.
nlohmann::json parsed(std::string_view line) {
  try {
    return parse_json(line, "");
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

void append_line(const std::filesystem::path& path, const std::string& line, FileOperations& operations) {
  Descriptor file(operations.open(path, O_RDWR | O_APPEND | O_CREAT, 0644), operations);
  if (file.get() < 0) throw system_failure(path, "cannot be written", errno);
  const std::string bytes = (ends_torn(file.get()) ? "\n" : "") + line + "\n";
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = operations.write(file.get(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw system_failure(path, "cannot be written", count < 0 ? errno : ENOSPC);
    written += static_cast<size_t>(count);
  }
  if (file.close() != 0) throw system_failure(path, "cannot be written", errno);
}

std::string with_scale(std::string_view name, const MapSize& map) {
  return fmt::format("{}_{}x{}", name, map.height, map.width);
}

std::vector<nlohmann::json> read_metrics(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  return parse_metrics(as_text(MappedFile::open(path)->bytes()));
}

std::vector<nlohmann::json> parse_metrics(std::string_view text) {
  // (step, is a validation) in order; a later line takes the place of an earlier one
  std::map<std::pair<int64_t, bool>, nlohmann::json> newest;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    auto json = parsed(line);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    const std::pair key{json["step"].get<int64_t>(), json.contains("validation")};
    newest.insert_or_assign(key, std::move(json));
  }
  std::vector<nlohmann::json> lines;
  for (auto& [key, json] : newest) lines.push_back(std::move(json));
  return lines;
}

}  // namespace nextscale
