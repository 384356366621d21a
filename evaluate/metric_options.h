#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "nextscale/base/options.h"
#include "nextscale/evaluate/protocol.h"

namespace nextscale {

struct MetricOptions {
  std::vector<std::string> metrics = {"all"};
  int64_t is_splits = 0;
  bool half = false;
  bool fid_infinity = false;
  int64_t kid_subsets = 100;
  int64_t kid_subset_size = 1000;

  static constexpr auto table() {
    using O = MetricOptions;
    return std::tuple{
        option(
            "metrics", &O::metrics,
            "fid, sfid, is, kid, pr, prdc, memorisation, accuracy, with commas; all = what the protocol defines, prdc "
            "and memorisation, as far as the inputs allow"),
        option(
            "is_splits", &O::is_splits,
            "parts of the Inception Score; 0 = the protocol's (adm: 5,000 rows each, in file order; else 10, shuffled)",
            between(0, 1000)),
        option("half", &O::half, "precision and recall from distances rounded to float16, as ADM's script does"),
        option("fid_infinity", &O::fid_infinity, "also the Fréchet distance extrapolated to endless pictures"),
        option("kid_subsets", &O::kid_subsets, "subsets of the kernel distance", between(1, 100000)),
        option("kid_subset_size", &O::kid_subset_size, "pictures in each of them", between(2, 1 << 20)),
    };
  }
};

/// The metrics to be computed, in the order of the table of names. @throws Error usage for an unknown word
std::vector<std::string> wanted_metrics(const MetricOptions& options, const Protocol& protocol);

}  // namespace nextscale
