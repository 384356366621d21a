#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace nextscale {

/// Which folder is which class.
struct ClassIndex {
  std::vector<std::string> names;          ///< by index
  std::map<std::string, int64_t> folders;  ///< folder -> index
};

/// A line a class: index, folder, name (the rest of the line), separated by tabs or else by blanks; without a name the
/// folder is the name. A first line that does not begin with a number is a heading. Every index from 0 on once.
/// @throws Error failure naming file and line
ClassIndex read_class_index(const std::filesystem::path& path);
/// Sorted by code point, as the reference numbers them.
ClassIndex index_of_folders(const std::vector<std::string>& folders);
/// "a, b, c and 7 more"
std::string short_list(const std::vector<std::string>& words);

}  // namespace nextscale
