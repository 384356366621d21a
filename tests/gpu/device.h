#pragma once

#include <cstdlib>

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "nextscale/base/runtime.h"

namespace nextscale::testing {

/// NVIDIA's matrix units round float32 to ten bits where they may (TF32). While one lives they may, or may not.
class Tf32Guard {
 public:
  explicit Tf32Guard(bool allowed)
      : matrices_(at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST),
        convolutions_(at::globalContext().allowTF32CuDNN()) {
    set(allowed, allowed);
  }
  ~Tf32Guard() { set(matrices_, convolutions_); }
  Tf32Guard(const Tf32Guard&) = delete;
  Tf32Guard& operator=(const Tf32Guard&) = delete;

 private:
  static void set(bool matrices, bool convolutions) {
    at::globalContext().setFloat32MatmulPrecision(matrices ? "high" : "highest");
    at::globalContext().setAllowTF32CuDNN(convolutions);
  }
  bool matrices_, convolutions_;
};

/// Tests of a GPU against the CPU; skipped where there is none. NEXTSCALE_GPU_DEVICE names another device: "cpu" tries
/// the tests themselves.
class OnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* name = std::getenv("NEXTSCALE_GPU_DEVICE");
    device_ = resolve_device(name != nullptr ? name : "auto");
    if (name == nullptr && device_.is_cpu()) GTEST_SKIP() << "no GPU";
  }
  at::Device device_{at::kCPU};
};

}  // namespace nextscale::testing
