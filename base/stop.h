#pragma once

#include "nextscale/base/error.h"

namespace nextscale {

/// While one lives, SIGINT and SIGTERM ask for an end instead of killing; the handler restores the default, so that a
/// second signal kills at once. Long jobs ask `requested()` between steps, save, and end with `exit_code()`.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  bool requested() const;
  /// interrupted for SIGINT, terminated for SIGTERM, done when nobody asked.
  ExitCode exit_code() const;
};

}  // namespace nextscale
