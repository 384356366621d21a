#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace nextscale {

/// A bar with rate and time left on a terminal, a line every ten seconds elsewhere; ASCII unless the terminal is UTF-8.
/// Draws at most ten times a second, so it may be told of every step.
class Progress {
 public:
  /// @param total steps in all, 0 if unknown; @param unit what a step counts, e.g. "pictures"
  Progress(std::string label, int64_t total, std::string unit, bool quiet, std::FILE* out = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// For resumed jobs: steps that were done before and do not count for the rate.
  void start_at(int64_t done);
  /// @param detail e.g. "loss 3.12", shown behind the numbers
  void update(int64_t done, const std::string& detail = "");
  /// Last state on a line of its own; later updates do nothing. The destructor calls it.
  void finish();
  /// A line of text that does not tear the bar.
  void note(const std::string& line);

  /// "1:05:09", "3:20", "12 s"
  static std::string duration_text(double seconds);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);
  std::string line() const;

  std::string label_, unit_, detail_;
  int64_t total_, done_ = 0, done_before_ = 0;
  bool quiet_, terminal_, utf8_, finished_ = false, drawn_ = false;
  std::FILE* out_;
  Clock::time_point started_, last_draw_;
};

/// True where text on this stream may use more than ASCII.
bool is_utf8_terminal(std::FILE* stream);

}  // namespace nextscale
