#include "nextscale/base/stop.h"

#include <csignal>

namespace nextscale {
namespace {

// The one thing a handler may write; everything else is asked between steps.
volatile std::sig_atomic_t caught_signal = 0;

void remember(int signal_number) {
  caught_signal = signal_number;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

StopOnSignal::StopOnSignal() {
  caught_signal = 0;
  std::signal(SIGINT, remember);
  std::signal(SIGTERM, remember);
}

StopOnSignal::~StopOnSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool StopOnSignal::requested() const { return caught_signal != 0; }

ExitCode StopOnSignal::exit_code() const {
  if (caught_signal == SIGINT) return ExitCode::interrupted;
  if (caught_signal == SIGTERM) return ExitCode::terminated;
  return ExitCode::done;
}

}  // namespace nextscale
