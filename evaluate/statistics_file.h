#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "nextscale/evaluate/frechet.h"
#include "nextscale/io/npz.h"

namespace nextscale {

/// Means and covariances as evaluators keep them: mu (D), sigma (D, D); ADM's also mu_s, sigma_s of the spatial
/// features. Ours add `count`, `hash` and what made them.
struct StoredStatistics {
  FeatureStatistics features;
  std::optional<FeatureStatistics> spatial;
  int64_t count = 0;  ///< pictures behind them, 0 where the file does not say
};

/// Whether the archive holds statistics.
bool holds_statistics(const NpzFile& npz);
/// float64 or float32 (widened), either byte order, C or Fortran order.
/// @throws Error failure naming file and array: mu without sigma, other types or shapes, values that are not finite, a
/// covariance that is not symmetric or not positive
StoredStatistics read_statistics(NpzFile& npz, const std::string& where);
/// Complete or not there; pytorch-fid, clean-fid and ADM's evaluator read it.
/// @param spatial may be nullptr @param made_with JSON text on protocol and network
void write_statistics(const std::filesystem::path& path, const FeatureStatistics& features,
                      const FeatureStatistics* spatial, const std::string& made_with);

}  // namespace nextscale
