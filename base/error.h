#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace nextscale {

/// What the process says to its caller (docs/command_line.md).
enum class ExitCode : int { done = 0, failure = 1, usage = 2, interrupted = 130, terminated = 143 };

/// The four parts that make a message good: which file or option, what is wrong, what was expected, what came.
/// Empty parts are left out.
struct ErrorParts {
  std::string where{};
  std::string what{};
  std::string expected{};
  std::string got{};
};

/// The one exception of the project. Thrown where the facts are known, caught once in cli/main.
/// what() is one line: "WHERE: WHAT: expected EXPECTED, got GOT".
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const ErrorParts& parts);
  ExitCode code() const { return code_; }
  const ErrorParts& parts() const { return parts_; }

 private:
  ExitCode code_;
  ErrorParts parts_;
};

/// Everything that is not the user's command line: files, data, machine.
Error failure(const ErrorParts& parts);
/// An option that is unknown, missing, out of range or cannot be parsed.
Error usage(const ErrorParts& parts);

/// "(4096, 32)"
std::string shape_text(std::span<const int64_t> shape);

}  // namespace nextscale
