#include "nextscale/train/metrics_log.h"

#include <cerrno>
#include <map>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "nextscale/io/atomic_file.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {
namespace {

/// Closes on every way out.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

bool ends_torn(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || status.st_size == 0) return false;
  char last = '\n';
  return pread(descriptor, &last, 1, status.st_size - 1) == 1 && last != '\n';
}

}  // namespace

void append_line(const std::filesystem::path& path, const std::string& line) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) throw system_failure(path, "cannot be written", errno);
  const std::string bytes = (ends_torn(file.get()) ? "\n" : "") + line + "\n";
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = ::write(file.get(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_failure(path, "cannot be written", errno);
    written += static_cast<size_t>(count);
  }
}

std::vector<nlohmann::json> read_metrics(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  if (!std::filesystem::exists(path)) return lines;
  std::istringstream text(read_text(path));
  // (step, is a validation) in order; a later line takes the place of an earlier one
  std::map<std::pair<int64_t, bool>, nlohmann::json> newest;
  for (std::string line; std::getline(text, line);) {
    auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    const std::pair key{json["step"].get<int64_t>(), json.contains("validation")};
    newest.insert_or_assign(key, std::move(json));
  }
  for (auto& [key, json] : newest) lines.push_back(std::move(json));
  return lines;
}

}  // namespace nextscale
