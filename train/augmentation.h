#pragma once

#include <cstdint>

#include <ATen/core/Generator.h>
#include <torch/types.h>

namespace nextscale {

/// What a discriminator sees of a batch: the same distortions of real and decoded pictures, through which gradients
/// flow (Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training").
struct AugmentationOptions {
  bool translation = true;      ///< by up to an eighth of each side; zeros come in
  bool colour = true;           ///< brightness +-0.5, saturation x [0, 2], contrast x [0.5, 1.5]
  bool cutout = true;           ///< a rectangle of zeros
  double cutout_share = 0.2;    ///< of each side
  bool rounds_half_up = false;  ///< shares of a side that end in .5; else to even, as Python rounds
};

/// Rows of random numbers that a batch takes: shift down and right, brightness, saturation, contrast, cut-out's place.
inline constexpr int64_t kAugmentationDraws = 7;

/// (kAugmentationDraws, batch) in [0, 1), on the CPU whatever the device, so that a seed means the same everywhere.
torch::Tensor draw_augmentation(int64_t batch, at::Generator& generator);

/// Shift, then colour, then cut-out (FoundationVision/vaex's order).
/// @param pictures (B, C, H, W) @param draws (kAugmentationDraws, B) in [0, 1), on the CPU
/// @returns (B, C, H, W)
torch::Tensor augmented(const torch::Tensor& pictures, const torch::Tensor& draws, const AugmentationOptions& options);

/// Both kinds of pictures blurred while a discriminator is young, so that it cannot tell them apart by fine detail at
/// once: standard deviation sqrt(H / 2) * strength, kernel 2^-(i / deviation)^2 up to three deviations, mirrored edges.
/// @param pictures (B, C, H, W) @param strength 1 at the start of the fade, 0 at its end
torch::Tensor blurred(const torch::Tensor& pictures, double strength);

}  // namespace nextscale
