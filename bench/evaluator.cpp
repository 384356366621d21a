// The evaluator's pieces at their full size, on random features.
//   bench_evaluator frechet A.npz B.npz        seconds of the distance of two
//   files of statistics, and its value bench_evaluator manifold ROWS WIDTH
//   precision, recall, density, coverage of ROWS against ROWS bench_evaluator
//   kid ROWS WIDTH             100 subsets of 1,000 bench_evaluator neighbours
//   ROWS WIDTH      nearest and second nearest of ROWS among ROWS
// Prints seconds and the peak of memory.
#include <chrono>
#include <cstdio>
#include <string>

#include <ATen/ATen.h>
#include <sys/resource.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/evaluate/frechet.h"
#include "nextscale/evaluate/kernel_distance.h"
#include "nextscale/evaluate/manifold.h"
#include "nextscale/evaluate/neighbours.h"
#include "nextscale/evaluate/statistics_file.h"

namespace nextscale {
namespace {

double peak_gigabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e6;
}

template <class Work>
void timed(const std::string& what, const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  const double value = work();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  std::printf("%s: %.2f s, value %.12g, peak %.2f GB\n", what.c_str(), passed.count(), value, peak_gigabytes());
}

/// Like features: not negative, few directions that matter.
at::Tensor features(int64_t rows, int64_t width, uint64_t seed) {
  auto generator = make_generator(seed);
  const auto scales = at::arange(1, width + 1, at::kFloat).rsqrt();
  auto all = at::empty({rows, width}, at::kFloat);
  for (int64_t begin = 0; begin < rows; begin += 1000) {
    auto some = all.slice(0, begin, std::min(rows, begin + 1000));
    some.copy_(at::randn(some.sizes(), generator, at::kFloat).abs_().mul_(scales));
  }
  return all;
}

FeatureStatistics statistics(const std::string& path) {
  NpzFile npz(path);
  return read_statistics(npz, path).features;
}

int run(int argc, char** argv) {
  if (argc != 4)
    throw usage({.what = "expected frechet A.npz B.npz, or manifold, kid, "
                         "neighbours with ROWS WIDTH"});
  const std::string what = argv[1];
  if (what == "frechet") {
    const auto a = statistics(argv[2]), b = statistics(argv[3]);
    timed(what, [&] { return frechet_distance(a, b).value; });
    return 0;
  }
  const int64_t rows = std::stoll(argv[2]), width = std::stoll(argv[3]);
  const auto a = features(rows, width, 1), b = features(rows, width, 2);
  if (what == "manifold") timed(what, [&] { return compare_manifolds(a, b, {}).precision; });
  if (what == "kid") timed(what, [&] { return kernel_distance(a, b).value; });
  if (what == "neighbours") timed(what, [&] { return nearest_neighbours(a, b, 2).distances.mean().item<double>(); });
  return 0;
}

}  // namespace
}  // namespace nextscale

int main(int argc, char** argv) {
  try {
    return nextscale::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_evaluator: %s\n", error.what());
    return 1;
  }
}
