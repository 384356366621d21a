#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/base/options.h"
#include "nextscale/base/scales.h"
#include "nextscale/evaluate/intervals.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// What is done to pictures that no eye would mind.
struct StabilityOptions {
  double noise = 2;
  int64_t jpeg_quality = 90;

  static constexpr auto table() {
    using O = StabilityOptions;
    return std::tuple{
        option("noise", &O::noise, "standard deviation of the Gaussian noise, in steps of 255", between(0.0, 255.0)),
        option("jpeg_quality", &O::jpeg_quality, "quality of the JPEG", between(1, 100)),
    };
  }
};

/// Plus Gaussian noise, clamped to [-1, 1].
/// @param pictures (B, C, H, W) in [-1, 1] @param steps standard deviation in steps of 255
/// @param seeds B of them, so that a picture's noise depends on nothing else
at::Tensor with_noise(const at::Tensor& pictures, double steps, const std::vector<uint64_t>& seeds);
/// One pixel to the right; the first column twice, the last one gone. (B, C, H, W)
at::Tensor shifted_right(const at::Tensor& pictures);
/// Rounded to 8 bits, written as JPEG and read again. (B, 1 or 3, H, W)
at::Tensor through_jpeg(const at::Tensor& pictures, int64_t quality);

/// How many tokens changed.
struct ChangedTokens {
  int64_t changed = 0, tokens = 0;
  std::optional<Interval> interval;  ///< of the share, over pictures: tokens of one picture do not move independently
  double share() const { return tokens == 0 ? 0 : static_cast<double>(changed) / static_cast<double>(tokens); }
};
struct Disturbance {
  std::string name;                     ///< key in the JSON: noise, shift, jpeg
  std::string what;                     ///< for people
  std::vector<ChangedTokens> scales{};  ///< K
  ChangedTokens all{};                  ///< of all scales together
};

/// Shares of tokens that change under small disturbances, over any number of batches.
class TokenStability {
 public:
  /// @param seed of the noise
  TokenStability(const Scales& scales, const StabilityOptions& options, uint64_t seed);

  /// @param pictures (B, C, H, W) in [-1, 1], C 1 or 3, on the tokenizer's device; the caller's autocast holds
  /// @param tokens   (B, L) of the pictures as they are, in the same arithmetic
  /// @param indices  B numbers that name the pictures: each draws noise of its own
  void add(Tokenizer& tokenizer, const at::Tensor& pictures, const at::Tensor& tokens,
           const std::vector<int64_t>& indices);
  int64_t pictures() const { return pictures_; }
  /// Noise, shift and JPEG, in this order. Intervals need two pictures.
  std::vector<Disturbance> disturbances() const;

 private:
  /// (B, K) int64
  at::Tensor changed_per_scale(const at::Tensor& tokens, const at::Tensor& others) const;
  ChangedTokens sum(const at::Tensor& changed, int64_t tokens_each) const;

  Scales scales_;
  StabilityOptions options_;
  uint64_t seed_;
  int64_t pictures_ = 0;
  std::array<std::vector<at::Tensor>, 3> changed_;  // of each disturbance, batches of (B, K) int64
};

}  // namespace nextscale
