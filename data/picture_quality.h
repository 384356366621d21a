#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// Peak signal-to-noise ratio of each picture, 10 log10(span^2 / mean squared difference), at most 100 dB: equal
/// pictures would have an infinite one, and so would every mean with one of them in it.
/// @param pictures, others (N, ...) of one shape, both uint8 (compared in float64) or both floating
/// @param span largest minus smallest possible value: 255 for uint8, 2 for [-1, 1]
/// @returns (N) float64 @throws Error failure if the shapes differ
at::Tensor psnr(const at::Tensor& pictures, const at::Tensor& others, double span);

/// Sides below it have no whole window.
inline constexpr int64_t kSsimSide = 11;

/// Structural similarity of each picture (Wang, Bovik, Sheikh and Simoncelli 2004): 11x11 Gaussian windows of sigma 1.5
/// that lie inside the picture, K1 0.01, K2 0.03, span 255, float64; the mean over windows and channels.
/// @param pictures, others (N, H, W, C) uint8
/// @returns (N) float64 @throws Error failure if the shapes differ or a side is below kSsimSide
at::Tensor ssim(const at::Tensor& pictures, const at::Tensor& others);
/// The same of luma, 0.299 R + 0.587 G + 0.114 B rounded to 8 bits. @param pictures, others (N, H, W, 3) uint8
at::Tensor ssim_of_luma(const at::Tensor& pictures, const at::Tensor& others);
/// SSIM at every window: (N, C, H - 10, W - 10) float64.
at::Tensor ssim_map(const at::Tensor& pictures, const at::Tensor& others);

}  // namespace nextscale
