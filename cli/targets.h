#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

/// Places that verbs write to. What cannot be written fails before the work and not after it.
namespace nextscale::cli {

/// @throws Error failure naming the folder if it cannot be made or written to
void make_folder(const std::filesystem::path& folder);
/// Makes the folder of a file; an empty name is no file. @throws Error failure if a folder has the name, or as above
void prepare_target(const std::string& file);

/// "000012_class007.png", "000012_nolabel.png" for a label below 0.
std::string picture_name(int64_t index, int64_t label);

}  // namespace nextscale::cli
