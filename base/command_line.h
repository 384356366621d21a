#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/base/options.h"

namespace nextscale {

/// One verb's options, composed from the structs it needs. Parsing and applying are apart, so that the precedence
/// default < preset < checkpoint < command line is: parse, fill the structs from preset or checkpoint, apply.
class CommandLine {
 public:
  /// @param usage the line after "usage: ", e.g. "nextscale sample --model FILE|RUN --tokenizer FILE|RUN --out DIR"
  CommandLine(std::string usage, std::string summary);

  /// Adds a group of options to the help and the parser. The structs must outlive this object and not move.
  void add(const std::string& group, const std::vector<BoundOption>& options);
  /// Words without a dash, e.g. FILE|RUN of `inspect`; without it they are errors.
  void allow_positional(const std::string& name, std::string help);

  /// Reads what the user typed and checks each value by itself. The arguments after the verb.
  /// @returns false if help was asked for; the caller prints `help()` to stdout and ends with 0
  /// @throws Error usage, one line that points to --help
  bool parse(const std::vector<std::string>& arguments);
  /// Sets every option that was given (and only those) in its struct.
  void apply() const;

  bool given(const std::string& name) const { return given_.count(name) > 0; }  ///< by JSON key, e.g. "top_k"
  const std::vector<std::string>& positional() const { return positional_; }
  /// @throws Error usage unless the option was given
  void require(const std::string& name) const;
  /// @throws Error usage if two or more of them were given
  void exclusive(const std::vector<std::string>& names) const;
  std::string help() const;

 private:
  struct Group {
    std::string title;
    std::vector<BoundOption> options;
    std::vector<std::string> defaults;  // texts when added, before anything was applied
  };
  const BoundOption* find_flag(const std::string& flag) const;
  const BoundOption* find_name(const std::string& name) const;

  std::string usage_, summary_, positional_name_, positional_help_;
  std::vector<Group> groups_;
  std::map<std::string, std::string> given_;  // JSON key -> typed text
  std::vector<std::string> positional_;
};

}  // namespace nextscale
