#pragma once

#include <filesystem>
#include <string_view>

#include <nlohmann/json.hpp>

namespace nextscale {

/// JSON from outside, nested at most 64 deep. @param where names the file in errors
/// @throws Error failure "FILE: no valid JSON at byte 12", or for deeper nesting
nlohmann::json parse_json(std::string_view text, const std::string& where);
/// @throws Error failure naming the file, also if it cannot be read
nlohmann::json read_json_file(const std::filesystem::path& path);

}  // namespace nextscale
