#pragma once

#include <string>

namespace nextscale {

/// While one lives, LibTorch's operators on this thread and those that work for it are recorded; its end writes them as
/// a Chrome trace (chrome://tracing, https://ui.perfetto.dev). A second of small operators takes some megabytes.
class Trace {
 public:
  /// @param file empty = nothing is recorded. @throws Error failure if it cannot be written
  explicit Trace(std::string file);
  /// Writes the file; a failure is a warning on stderr, for the work itself is done.
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

 private:
  std::string file_;
};

}  // namespace nextscale
