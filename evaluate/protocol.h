#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nextscale/evaluate/kernel_distance.h"

namespace nextscale {

enum class Resize { tensorflow, half_pixel, pillow };
enum class ScoreParts { rows_in_file_order, shuffled_splits };

/// What one of the field's evaluators does; everything that moves its numbers. Means and covariances are accumulated in
/// float64 by all of ours (the tools' float32 means are worth up to 2e-4 of FID at 50,000 pictures).
struct Protocol {
  std::string name;
  std::string tool;                  ///< whose numbers it makes, for the report
  Resize resize;                     ///< to the network's 299 pixels
  double zero, unit;                 ///< the network eats (x - zero) / unit of 0 … 255
  std::vector<std::string> metrics;  ///< that the tool defines, besides ours that every protocol has
  ScoreParts score_parts;            ///< Inception Score: consecutive 5,000 rows, or 10 parts of a shuffled set
  KernelDraws kernel_draws;          ///< KID: which set's subset is drawn first
  int64_t neighbours = 3;            ///< k of precision and recall
};

/// "adm", "torch-fidelity", "clean-fid" or "pytorch-fid" (docs/evaluation.md).
/// @throws Error usage for another name
const Protocol& protocol_of(const std::string& name);

}  // namespace nextscale
