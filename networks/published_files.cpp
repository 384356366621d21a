#include "nextscale/networks/published_files.h"

#include "nextscale/base/error.h"

namespace nextscale {

void expect_published(const std::filesystem::path& path, const std::string& command) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return;
  throw failure({.where = path.string(), .what = "published weights are not there; they come with " + command});
}

}  // namespace nextscale
