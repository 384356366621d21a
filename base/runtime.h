#pragma once

#include <cstdint>
#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "nextscale/base/options.h"

namespace nextscale {

/// What every verb takes.
struct RuntimeOptions {
  std::string device = "auto";
  std::string dtype = "auto";
  int64_t seed = 0;
  int64_t threads = 0;
  bool quiet = false;
  std::string trace;

  static constexpr auto table() {
    using O = RuntimeOptions;
    return std::tuple{
        option("device", &O::device, "auto, cpu, cuda or cuda:i; auto takes a GPU where there is one"),
        option("dtype", &O::dtype, "arithmetic: auto, float32 or bfloat16; auto takes what the processor is fast at",
               one_of("auto", "float32", "bfloat16")),
        option("seed", &O::seed, "seed of everything random", at_least(0)),
        option("threads", &O::threads, "processor threads; 0 = all cores", between(0, 4096)),
        option("quiet", &O::quiet, "no progress on stderr; warnings and errors stay"),
        option("trace", &O::trace,
               "file for a Chrome trace of the call's operators; some megabytes a second, so keep the call short"),
    };
  }
};

/// @throws Error usage for a name that is no device, failure for a device that is not there
c10::Device resolve_device(const std::string& name);
/// "auto": bfloat16 on a GPU and on processors where it measures faster by a sixth or more, else float32.
c10::ScalarType resolve_dtype(const std::string& name, const c10::Device& device);
/// How many times as fast linear layers are in bfloat16 as in float32 on this processor, measured at the first call
/// (some 50 ms); 0 where it has no instructions for it. Having them says little: with AMX switched off they were half
/// as fast as float32 on one processor, and 2.5 times as fast on another without AMX.
double bfloat16_speedup();
/// Sets LibTorch's thread count; 0 leaves all cores.
void set_threads(int64_t threads);
std::string dtype_text(c10::ScalarType dtype);  ///< "float32"
std::string versions_text();                    ///< "nextscale 0.1.0, LibTorch 2.13.0, …"

/// While one lives, operators with a reduced-precision form run in `dtype`; float32 switches autocast off inside
/// another guard (quantizer, losses). Keep optimizer steps and weight loading outside: casts of weights are cached
/// until the outermost guard ends.
class AutocastGuard {
 public:
  AutocastGuard(c10::DeviceType device, c10::ScalarType dtype);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  c10::DeviceType device_;
  bool enabled_;
  c10::ScalarType dtype_;
};

}  // namespace nextscale
