#include "nextscale/base/trace.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include <ATen/Context.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

using torch::profiler::impl::ActivityType;

std::set<ActivityType> activities() {
  std::set<ActivityType> all{ActivityType::CPU};
  if (at::hasCUDA()) all.insert(ActivityType::CUDA);
  return all;
}

}  // namespace

Trace::Trace(std::string file) : file_(std::move(file)) {
  if (file_.empty()) return;
  // Kineto itself would only log that it cannot write, after the work.
  const bool there = std::filesystem::exists(file_);
  if (!std::ofstream(file_, std::ios::app)) throw failure({.where = file_, .what = "cannot be written"});
  if (!there) std::filesystem::remove(file_);
  ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);  // else it tells stderr when it starts and stops
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO,
                                                     /*report_input_shapes=*/true, false, false, false, false);
  torch::autograd::profiler::prepareProfiler(config, activities());
  torch::autograd::profiler::enableProfiler(
      config, activities(),
      {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE, at::RecordScope::BACKWARD_FUNCTION});
}

Trace::~Trace() {
  if (file_.empty()) return;
  try {
    const std::filesystem::path part = file_ + ".part";
    torch::autograd::profiler::disableProfiler()->save(part.string());
    std::filesystem::rename(part, file_);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nextscale: warning: %s: no trace was written: %s\n", file_.c_str(), error.what());
  }
}

}  // namespace nextscale
