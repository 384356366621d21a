#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace nextscale::testing {

/// How a program ended and what it said.
struct ProgramResult {
  int code = -1;  ///< exit code, 128 + signal if killed
  std::string out, err;

  /// Non-empty lines of stderr: errors are exactly one.
  std::vector<std::string> error_lines() const;
};

/// The built `nextscale` with these words, as a user would run it; waits for its end.
/// @param environment  further variables, NAME=VALUE
ProgramResult run_nextscale(const std::vector<std::string>& words, const std::vector<std::string>& environment = {});

/// A running program, for tests that stop or kill it. Killed by the destructor if still alive.
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& words, const std::vector<std::string>& environment = {});
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal_number) const;
  /// Blocks until it ended.
  ProgramResult wait();
  /// Blocks until `path` exists or the program ended. @returns whether it exists
  bool wait_for_file(const std::filesystem::path& path);

 private:
  bool ended();

  pid_t pid_ = -1;
  int status_ = 0;
  bool waited_ = false;
  std::filesystem::path out_, err_;
};

}  // namespace nextscale::testing
