#include "nextscale/base/runtime.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <torch/version.h>

#include "nextscale/base/error.h"

namespace nextscale {

namespace {

int64_t gpu_count() { return at::hasCUDA() ? static_cast<int64_t>(at::detail::getCUDAHooks().getNumGPUs()) : 0; }

bool has_bfloat16_instructions() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    return line.find("avx512_bf16") != std::string::npos || line.find("amx_bf16") != std::string::npos;
  }
  return false;
}

/// Of a linear layer as wide as the published models' smallest; the fastest of some tries, in turn.
double measured_bfloat16_speedup() {
  const at::NoGradGuard no_grad;
  const AutocastGuard plain(c10::kCPU, c10::kFloat);
  const auto x = at::ones({256, 1024}), weight = at::ones({1024, 1024});
  const auto x_half = x.to(at::kBFloat16), weight_half = weight.to(at::kBFloat16);
  double full = std::numeric_limits<double>::infinity(), half = full;
  const auto shorten = [](double& least, const at::Tensor& input, const at::Tensor& by) {
    const auto begin = std::chrono::steady_clock::now();
    at::linear(input, by);
    least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  };
  for (int i = 0; i < 6; ++i) {
    shorten(full, x, weight);
    shorten(half, x_half, weight_half);
  }
  return full / half;
}

}  // namespace

c10::Device resolve_device(const std::string& name) {
  if (name == "auto") return gpu_count() > 0 ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
  if (name == "cpu") return c10::Device(c10::kCPU);
  const std::string rule = "auto, cpu, cuda or cuda:i";
  if (name.rfind("cuda", 0) != 0) throw usage({"--device", "unknown", rule, "'" + name + "'"});
  int64_t index = 0;
  if (name.size() > 4) {
    const std::string digits = name.size() > 5 && name[4] == ':' ? name.substr(5) : "";
    const bool number =
        !digits.empty() && digits.size() < 4 && digits.find_first_not_of("0123456789") == std::string::npos;
    if (!number) throw usage({"--device", "unknown", rule, "'" + name + "'"});
    index = std::stoll(digits);
  }
  const int64_t count = gpu_count();
  if (index >= count) {
    throw failure({"--device " + name,
                   "is not there",
                   {},
                   std::to_string(count) + " CUDA devices" + (at::hasCUDA() ? "" : " (LibTorch without CUDA)")});
  }
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

double bfloat16_speedup() {
  static const double speedup = has_bfloat16_instructions() ? measured_bfloat16_speedup() : 0.0;
  return speedup;
}

c10::ScalarType resolve_dtype(const std::string& name, const c10::Device& device) {
  if (name == "float32") return c10::kFloat;
  if (name == "bfloat16") return c10::kBFloat16;
  if (name != "auto") throw usage({"--dtype", "unknown", "auto, float32 or bfloat16", "'" + name + "'"});
  return device.is_cuda() || bfloat16_speedup() > 1.15 ? c10::kBFloat16 : c10::kFloat;
}

void set_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

std::string dtype_text(c10::ScalarType dtype) {
  if (dtype == c10::kFloat) return "float32";
  if (dtype == c10::kBFloat16) return "bfloat16";
  return c10::toString(dtype);
}

std::string versions_text() {
  return std::string("nextscale " NEXTSCALE_VERSION ", LibTorch " TORCH_VERSION) + (at::hasCUDA() ? " with CUDA" : "");
}

AutocastGuard::AutocastGuard(c10::DeviceType device, c10::ScalarType dtype)
    : device_(device),
      enabled_(at::autocast::is_autocast_enabled(device)),
      dtype_(at::autocast::get_autocast_dtype(device)) {
  at::autocast::increment_nesting();
  at::autocast::set_autocast_enabled(device, dtype != c10::kFloat);
  if (dtype != c10::kFloat) at::autocast::set_autocast_dtype(device, dtype);
}

AutocastGuard::~AutocastGuard() {
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, enabled_);
  at::autocast::set_autocast_dtype(device_, dtype_);
}

}  // namespace nextscale
