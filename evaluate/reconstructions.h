#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/evaluate/evaluation.h"
#include "nextscale/vqvae/codebook.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// A perceptual distance, from whoever has its weights.
struct PictureDistance {
  std::string name;   ///< key in the JSON: lpips
  std::string title;  ///< for people: "LPIPS (VGG16)"
  /// (B, C, H, W) and (B, C, H, W) in [-1, 1], on the tokenizer's device -> (B); empty = no such distance
  std::function<at::Tensor(const at::Tensor& pictures, const at::Tensor& others)> between;
};

/// What a tokenizer makes of a batch.
struct Reconstruction {
  at::Tensor tokens;                    ///< (B, L) int64
  std::vector<at::Tensor> after_scale;  ///< (B, C, H, W) float32 in [-1, 1] after each scale, or after the last alone
  const at::Tensor& pictures() const { return after_scale.back(); }
};
/// Convolutions follow the caller's autocast. @param pictures (B, C, H, W) in [-1, 1]
/// @param every_scale decode after every scale, which takes K times as long
Reconstruction reconstruct(Tokenizer& tokenizer, const at::Tensor& pictures, bool every_scale);

/// How near reconstructions come, and which codes they took, over any number of batches.
class ReconstructionQuality {
 public:
  ReconstructionQuality(const Scales& scales, int64_t codes, PictureDistance distance = {});

  /// @param pictures what was reconstructed
  void add(const at::Tensor& pictures, const Reconstruction& made);

  int64_t pictures() const { return static_cast<int64_t>(l1_.size()); }
  /// l1 (mean absolute difference of values in [-1, 1]); psnr and ssim of pictures rounded to 8 bits, as they are
  /// saved, and ssim_luma of colour pictures; the perceptual distance where there is one. Means over pictures with
  /// their intervals (two pictures or more).
  /// @throws Error failure if there were no pictures
  std::vector<Metric> metrics() const;
  /// "ssim: …", what could not be had and why.
  std::vector<std::string> left_out() const;
  /// Mean PSNR in dB of what the scales up to k decode to, over the pictures that were decoded after every scale.
  /// @returns K values, none if there were no such pictures
  std::vector<double> psnr_per_scale() const;
  int64_t pictures_per_scale() const { return pictures_per_scale_; }
  const CodeUsage& usage() const { return usage_; }

 private:
  PictureDistance distance_;
  CodeUsage usage_;
  std::vector<double> l1_, psnr_, ssim_, ssim_luma_, distances_;  // a value a picture
  std::vector<double> scale_psnr_;                                // (K) sums
  int64_t pictures_per_scale_ = 0;
};

/// The mean of a value a picture, with its interval where there are two pictures or more.
Metric mean_of(const std::string& name, const std::string& title, const std::vector<double>& values);

}  // namespace nextscale
