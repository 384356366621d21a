// How many pictures a second the loader makes, on as many cores as workers (0: on the caller's).
//   bench_loader DATA SIDE WORKERS [SECONDS]      SIDE 0 = as they are; crops as in training, mirrored half of the time
#include "nextscale/data/loader.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <ATen/Parallel.h>

#include "nextscale/data/dataset.h"

namespace nextscale {
namespace {

void measure(const DataOptions& options, double seconds) {
  constexpr int64_t kBatch = 32;
  const auto parts = open_data(options);
  Loader loader(parts.train, parts, options, kBatch, 0);
  int64_t step = 0;
  for (; step < 4; ++step) loader.batch(step);  // files into memory, threads at work
  const int64_t first = step;
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::duration<double> passed{};
  for (; passed.count() < seconds; passed = std::chrono::steady_clock::now() - begin) loader.batch(step++);
  std::printf("%.0f pictures/s\n", static_cast<double>((step - first) * kBatch) / passed.count());
}

}  // namespace
}  // namespace nextscale

int main(int count, char** words) {
  if (count != 4 && count != 5) {
    std::fputs("bench_loader DATA SIDE WORKERS [SECONDS]\n", stderr);
    return 2;
  }
  try {
    at::set_num_threads(1);
    nextscale::DataOptions options;
    options.data = words[1];
    options.side = std::atoll(words[2]);
    options.workers = std::atoll(words[3]);
    options.hflip = true;
    nextscale::measure(options, count == 5 ? std::atof(words[4]) : 5.0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_loader: %s\n", error.what());
    return 1;
  }
  return 0;
}
