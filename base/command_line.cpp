#include "nextscale/base/command_line.h"

#include <algorithm>

#include <cxxopts.hpp>
#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr size_t kFlagColumn = 30;
constexpr size_t kLineWidth = 110;

/// Words of `text` in lines of kLineWidth, every line after the first indented to the help column.
std::string wrapped(const std::string& text, size_t indent) {
  std::string out;
  size_t column = indent;
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.find(' ', at);
    if (end == std::string::npos) end = text.size();
    const size_t length = end - at;
    if (column + length > kLineWidth && column > indent) {
      while (out.back() == ' ') out.pop_back();
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    out += text.substr(at, length);
    column += length;
    if (end < text.size()) {
      out += ' ';
      ++column;
    }
    at = end + 1;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

bool is_switch(const BoundOption& option) { return std::holds_alternative<bool*>(option.value); }

/// cxxopts quotes in typographic marks; ours are plain.
std::string plain_quotes(std::string text) {
  for (const std::string mark : {"\u2018", "\u2019"}) {
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark)) text.replace(at, mark.size(), "'");
  }
  return text;
}

}  // namespace

CommandLine::CommandLine(std::string usage, std::string summary)
    : usage_(std::move(usage)), summary_(std::move(summary)) {}

void CommandLine::add(const std::string& group, const std::vector<BoundOption>& options) {
  Group added{group, {}, {}};
  for (const auto& option : options) {
    if (find_name(option.name) != nullptr) throw std::logic_error("option declared twice: " + option.name);
    added.options.push_back(option);
    added.defaults.push_back(option.text());
  }
  groups_.push_back(std::move(added));
}

void CommandLine::allow_positional(const std::string& name, std::string help) {
  positional_name_ = name;
  positional_help_ = std::move(help);
}

bool CommandLine::parse(const std::vector<std::string>& arguments) {
  cxxopts::Options parser("nextscale");
  parser.add_options()("h,help", "");
  for (const auto& group : groups_) {
    for (const auto& option : group.options) {
      const auto value =
          is_switch(option) ? cxxopts::value<std::string>()->implicit_value("true") : cxxopts::value<std::string>();
      parser.add_options()(option.flag(), "", value);
    }
  }
  std::vector<const char*> words{"nextscale"};
  for (const auto& argument : arguments) words.push_back(argument.c_str());
  try {
    const auto result = parser.parse(static_cast<int>(words.size()), words.data());
    if (result.count("help") > 0) return false;
    for (const auto& pair : result.arguments()) {
      const BoundOption* option = find_flag(pair.key());
      if (option == nullptr) continue;
      // A value that cannot be parsed is told of now, before any work; the struct keeps what it has until apply().
      const std::string before = option->text();
      option->parse(pair.value());
      option->parse(before);
      given_[option->name] = pair.value();
    }
    positional_ = result.unmatched();
  } catch (const Error& error) {
    throw usage({.what = std::string(error.what()) + " (see --help)"});
  } catch (const cxxopts::exceptions::exception& error) {
    throw usage({.what = plain_quotes(error.what()) + " (see --help)"});
  }
  if (positional_name_.empty() && !positional_.empty()) {
    throw usage({.where = "'" + positional_.front() + "'", .what = "is no option (see --help)"});
  }
  return true;
}

void CommandLine::apply() const {
  for (const auto& [name, typed] : given_) find_name(name)->parse(typed);
}

void CommandLine::require(const std::string& name) const {
  if (given(name)) return;
  const BoundOption* option = find_name(name);
  throw usage({.where = "--" + (option != nullptr ? option->flag() : name), .what = "is missing (see --help)"});
}

void CommandLine::exclusive(const std::vector<std::string>& names) const {
  std::string found;
  int64_t count = 0;
  for (const auto& name : names) {
    if (!given(name)) continue;
    found += (count++ > 0 ? ", --" : "--") + find_name(name)->flag();
  }
  if (count > 1) throw usage({.where = found, .what = "exclude each other: give one (see --help)"});
}

std::string CommandLine::help() const {
  std::string text = "usage: " + usage_ + "\n\n" + wrapped(summary_, 0) + "\n";
  if (!positional_name_.empty()) {
    text += fmt::format("\n  {:<{}}{}\n", positional_name_, kFlagColumn - 2, wrapped(positional_help_, kFlagColumn));
  }
  for (const auto& group : groups_) {
    text += "\n" + group.title + ":\n";
    for (size_t i = 0; i < group.options.size(); ++i) {
      const auto& option = group.options[i];
      std::string about = option.help;
      if (!option.rule.empty() && option.rule.rfind("one of", 0) != 0) about += "; " + option.rule;
      if (!is_switch(option) && !group.defaults[i].empty()) about += " [" + group.defaults[i] + "]";
      if (is_switch(option) && group.defaults[i] == "true")
        about += " [on; --" + option.flag() + "=false switches it off]";
      const std::string flag = "--" + option.flag();
      const std::string gap = flag.size() + 3 > kFlagColumn ? "\n" + std::string(kFlagColumn, ' ')
                                                            : std::string(kFlagColumn - 2 - flag.size(), ' ');
      text += "  " + flag + gap + wrapped(about, kFlagColumn) + "\n";
    }
  }
  return text + "\n  --help" + std::string(kFlagColumn - 8, ' ') + "this text\n";
}

const BoundOption* CommandLine::find_flag(const std::string& flag) const {
  for (const auto& group : groups_) {
    for (const auto& option : group.options) {
      if (option.flag() == flag) return &option;
    }
  }
  return nullptr;
}

const BoundOption* CommandLine::find_name(const std::string& name) const {
  for (const auto& group : groups_) {
    for (const auto& option : group.options) {
      if (option.name == name) return &option;
    }
  }
  return nullptr;
}

}  // namespace nextscale
