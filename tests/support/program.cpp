#include "nextscale/tests/support/program.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

std::filesystem::path output_file(const char* kind) {
  static std::atomic<int> counter{0};
  return std::filesystem::temp_directory_path() /
         ("nextscale_" + std::to_string(getpid()) + "_" + std::to_string(counter++) + "." + kind);
}

void redirect(int stream, const std::filesystem::path& path, int flags) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, stream) < 0) _exit(126);
  close(file);
}

}  // namespace

std::vector<std::string> ProgramResult::error_lines() const {
  std::vector<std::string> lines;
  std::istringstream stream(err);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

RunningProgram::RunningProgram(const std::vector<std::string>& words, const std::vector<std::string>& environment)
    : out_(output_file("out")), err_(output_file("err")) {
  std::vector<std::string> copies{NEXTSCALE_BINARY};
  copies.insert(copies.end(), words.begin(), words.end());
  std::vector<char*> arguments;
  for (auto& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  auto more = environment;
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ == 0) {
    redirect(STDIN_FILENO, "/dev/null", O_RDONLY);
    redirect(STDOUT_FILENO, out_, O_WRONLY | O_CREAT | O_TRUNC);
    redirect(STDERR_FILENO, err_, O_WRONLY | O_CREAT | O_TRUNC);
    for (auto& variable : more) putenv(variable.data());
    execv(arguments[0], arguments.data());
    _exit(127);
  }
}

RunningProgram::~RunningProgram() {
  if (!waited_) {
    send(SIGKILL);
    wait();
  }
  std::error_code ignored;
  std::filesystem::remove(out_, ignored);
  std::filesystem::remove(err_, ignored);
}

void RunningProgram::send(int signal_number) const { kill(pid_, signal_number); }

ProgramResult RunningProgram::wait() {
  if (!waited_) waitpid(pid_, &status_, 0);
  waited_ = true;
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, read_file(out_), read_file(err_)};
}

bool RunningProgram::ended() {
  if (!waited_ && waitpid(pid_, &status_, WNOHANG) == pid_) waited_ = true;
  return waited_;
}

bool RunningProgram::wait_for_file(const std::filesystem::path& path) {
  while (!std::filesystem::exists(path)) {
    if (ended()) return std::filesystem::exists(path);
    sched_yield();
  }
  return true;
}

ProgramResult run_nextscale(const std::vector<std::string>& words, const std::vector<std::string>& environment) {
  return RunningProgram(words, environment).wait();
}

}  // namespace nextscale::testing
