#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// Strength t of guidance at scale k: it ramps linearly from 0 at the first scale to `cfg` at the last, because the
/// coarse scales decide the layout and lose their variety under guidance (reference `cfg * ratio`).
/// @param scales K; with a single scale there is no ramp and t is 0
double guidance_strength(double cfg, int64_t k, int64_t scales);

/// Share of the way from the first to the last scale, k / (K - 1); 0 for K = 1.
double scale_ratio(int64_t k, int64_t scales);

/// Classifier-free guidance: (1 + t) * conditional - t * unconditional (VAR paper, section 4.1).
/// @param logits (2B, l, V), the conditional half first
/// @returns (B, l, V), a new tensor
at::Tensor guide(const at::Tensor& logits, double strength);

}  // namespace nextscale
