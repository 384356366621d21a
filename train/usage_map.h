#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json_fwd.hpp>
#include <torch/types.h>

#include "nextscale/base/scales.h"

namespace nextscale {

/// How evenly each scale used its codes over a training, as a heat map: a row a scale, a column a validation, the
/// brighter the nearer its perplexity is to the largest it could show (one code for each of its positions in the
/// validation's pictures, all codes at most); below each cell the perplexity.
/// @param metrics lines of a tokenizer's metrics.jsonl (read_metrics); the newest validations are shown
/// @returns (height, width, 3) uint8; undefined where no validation had codes yet
torch::Tensor usage_map(const std::vector<nlohmann::json>& metrics, const Scales& scales, int64_t codes);

}  // namespace nextscale
