#include "nextscale/base/progress.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <unistd.h>

namespace nextscale {
namespace {

constexpr int kBarWidth = 24;

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string rate_text(double rate) {
  if (rate >= 100) return fmt::format("{:.0f}", rate);
  if (rate >= 1) return fmt::format("{:.1f}", rate);
  return fmt::format("{:.3f}", rate);
}

}  // namespace

bool is_utf8_terminal(std::FILE* stream) {
  if (isatty(fileno(stream)) == 0) return false;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    return std::strstr(value, "UTF-8") != nullptr || std::strstr(value, "utf8") != nullptr;
  }
  return false;
}

Progress::Progress(std::string label, int64_t total, std::string unit, bool quiet, std::FILE* out)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      terminal_(isatty(fileno(out)) != 0),
      utf8_(is_utf8_terminal(out)),
      out_(out),
      started_(Clock::now()),
      last_draw_(started_) {}

Progress::~Progress() { finish(); }

void Progress::start_at(int64_t done) {
  done_ = done_before_ = done;
  started_ = Clock::now();
}

void Progress::update(int64_t done, const std::string& detail) {
  done_ = done;
  if (!detail.empty()) detail_ = detail;
  if (quiet_ || finished_) return;
  const double pause = terminal_ ? 0.1 : 10.0;
  if (seconds_between(last_draw_, Clock::now()) >= pause) draw(false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (!quiet_ && (drawn_ || done_ > done_before_)) draw(true);
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  if (terminal_ && drawn_ && !finished_) std::fputs("\r\033[K", out_);
  std::fprintf(out_, "%s\n", text.c_str());
  if (terminal_ && drawn_ && !finished_) draw(false);
  std::fflush(out_);
}

void Progress::draw(bool last) {
  last_draw_ = Clock::now();
  drawn_ = true;
  if (terminal_) {
    std::fprintf(out_, "\r%s\033[K%s", line().c_str(), last ? "\n" : "");
  } else {
    std::fprintf(out_, "%s\n", line().c_str());
  }
  std::fflush(out_);
}

std::string Progress::line() const {
  const double elapsed = seconds_between(started_, last_draw_);
  const double rate = elapsed > 0 ? static_cast<double>(done_ - done_before_) / elapsed : 0;
  std::string text = label_ + " ";
  if (total_ > 0) {
    const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    if (terminal_) {
      const int full = static_cast<int>(share * kBarWidth);
      text += utf8_ ? "" : "[";
      for (int i = 0; i < kBarWidth; ++i) text += i < full ? (utf8_ ? "█" : "#") : (utf8_ ? "░" : ".");
      text += utf8_ ? " " : "] ";
    }
    text += fmt::format("{:3.0f} %  {}/{} {}", 100 * share, done_, total_, unit_);
  } else {
    text += fmt::format("{} {}", done_, unit_);
  }
  if (rate > 0) text += fmt::format("  {}/s", rate_text(rate));
  if (finished_) {
    text += "  in " + duration_text(elapsed);
  } else if (rate > 0 && total_ > 0) {
    text += "  " + duration_text(static_cast<double>(total_ - done_) / rate) + " left";
  }
  return detail_.empty() ? text : text + "  " + detail_;
}

std::string Progress::duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace nextscale
