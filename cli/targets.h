#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

/// Places that verbs write to. What cannot be written fails before the work and not after it.
namespace nextscale::cli {

/// @throws Error failure naming the folder if it cannot be made or written to
void make_folder(const std::filesystem::path& folder);
/// Makes the folder of a file; an empty name is no file.
/// @param bytes at least so many will be written
/// @throws Error failure if a folder has the name, if there is too little disk, or as above
void prepare_target(const std::string& file, uint64_t bytes = 0);
/// A folder for so many pictures (channels, side, side). PNGs may be small, so half of their bytes must be free.
/// @throws Error failure as make_folder, or if there is too little disk
void make_picture_folder(const std::filesystem::path& folder, int64_t count, int64_t channels, int64_t side);

/// "000012_class007.png", "000012_nolabel.png" for a label below 0.
std::string picture_name(int64_t index, int64_t label);

}  // namespace nextscale::cli
