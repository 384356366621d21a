#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "nextscale/base/scales.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {

/// Appends one line to a text file in one write, so that a killed process leaves whole lines or one torn last line; a
/// torn last line (crash, power loss) gets its line end first, so that it spoils nothing but itself.
/// @throws Error failure naming the file, e.g. when the disk is full
void append_line(const std::filesystem::path& path, const std::string& line,
                 FileOperations& operations = system_files());

/// The name of a number that each scale has: "loss_2x2".
std::string with_scale(std::string_view name, const MapSize& map);

/// Lines of a metrics.jsonl in order, one per step and kind: torn lines are skipped, and where a resumed run wrote a
/// step again the later line holds. Empty if there is no file.
/// @throws Error failure if the file cannot be read
std::vector<nlohmann::json> read_metrics(const std::filesystem::path& path);
/// The same of a text.
std::vector<nlohmann::json> parse_metrics(std::string_view text);

}  // namespace nextscale
