#include "nextscale/data/class_index.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/atomic_file.h"

namespace nextscale {
namespace {

struct Row {
  std::string index, folder, name;
};

// Fields of one line; names may hold blanks, and folders too where tabs separate.
Row split(std::string_view line) {
  const bool tabs = line.find('\t') != std::string_view::npos;
  const std::string_view separators = tabs ? "\t" : " \t";
  const auto field = [&](bool rest) {
    const auto begin = std::min(line.find_first_not_of(separators), line.size());
    line.remove_prefix(begin);
    const auto end = rest ? line.size() : std::min(line.find_first_of(separators), line.size());
    const std::string text(line.substr(0, end));
    line.remove_prefix(end);
    return text;
  };
  Row row;
  row.index = field(false);
  row.folder = field(false);
  row.name = field(true);
  if (row.name.empty()) row.name = row.folder;
  return row;
}

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

}  // namespace

ClassIndex read_class_index(const std::filesystem::path& path) {
  std::istringstream text(read_text(path));
  std::map<int64_t, std::string> names;
  ClassIndex result;
  std::string line;
  for (int64_t at = 1; std::getline(text, line); ++at) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const auto row = split(line);
    const auto index = number(row.index);
    if (!index && at == 1) continue;  // a heading
    const auto where = fmt::format("{}:{}", path.string(), at);
    if (!index || row.folder.empty()) {
      throw failure({.where = where, .what = "no class", .expected = "index, folder and name", .got = line});
    }
    if (!names.emplace(*index, row.name).second) {
      throw failure({.where = where, .what = fmt::format("class {} for the second time", *index)});
    }
    if (!result.folders.emplace(row.folder, *index).second) {
      throw failure({.where = where, .what = fmt::format("folder {} for the second time", row.folder)});
    }
  }
  for (const auto& [index, name] : names) {
    if (index != static_cast<int64_t>(result.names.size())) {
      throw failure({.where = path.string(), .what = fmt::format("class {} is missing", result.names.size())});
    }
    result.names.push_back(name);
  }
  if (names.empty()) throw failure({.where = path.string(), .what = "no classes inside"});
  return result;
}

ClassIndex index_of_folders(const std::vector<std::string>& folders) {
  ClassIndex result;
  result.names = folders;
  std::sort(result.names.begin(), result.names.end());  // bytes of UTF-8 sort as code points
  for (size_t i = 0; i < result.names.size(); ++i) result.folders[result.names[i]] = static_cast<int64_t>(i);
  return result;
}

std::string short_list(const std::vector<std::string>& words) {
  constexpr size_t kShown = 5;
  const size_t shown = std::min(words.size(), kShown);
  const auto text =
      fmt::format("{}", fmt::join(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  return words.size() > shown ? fmt::format("{} and {} more", text, words.size() - shown) : text;
}

}  // namespace nextscale
