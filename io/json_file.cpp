#include "nextscale/io/json_file.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/atomic_file.h"

namespace nextscale {

nlohmann::json parse_json(std::string_view text, const std::string& where) {
  static constexpr int kDeepest = 64;
  const auto check_depth = [&where](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest) throw failure({where, "JSON is nested too deep", fmt::format("at most {}", kDeepest), {}});
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), check_depth);
  } catch (const nlohmann::json::parse_error& error) {
    throw failure({where, fmt::format("no valid JSON at byte {}", error.byte), {}, {}});
  } catch (const nlohmann::json::out_of_range&) {  // 1e999
    throw failure({where, "no valid JSON: a number is too large", {}, {}});
  }
}

nlohmann::json read_json_file(const std::filesystem::path& path) { return parse_json(read_text(path), path.string()); }

}  // namespace nextscale
