#include "nextscale/evaluate/reconstructions.h"

#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/data/picture.h"
#include "nextscale/data/picture_quality.h"
#include "nextscale/evaluate/intervals.h"

namespace nextscale {
namespace {

void append(std::vector<double>& values, const at::Tensor& more) {
  const auto wide = more.detach().to(at::kCPU, at::kDouble).contiguous();
  values.insert(values.end(), wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel());
}

}  // namespace

Reconstruction reconstruct(Tokenizer& tokenizer, const at::Tensor& pictures, bool every_scale) {
  const at::NoGradGuard no_grad;
  Reconstruction made{.tokens = tokenizer->encode(pictures), .after_scale = {}};
  if (every_scale) {
    made.after_scale = tokenizer->decode_per_scale(made.tokens);
  } else {
    made.after_scale = {tokenizer->decode(made.tokens)};
  }
  for (auto& after : made.after_scale) after = after.to(at::kFloat);
  return made;
}

Metric mean_of(const std::string& name, const std::string& title, const std::vector<double>& values) {
  if (values.empty()) throw failure({.where = title, .what = "no pictures"});
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  Metric metric{
      .name = name, .title = title, .value = sum / static_cast<double>(values.size()), .interval = {}, .further = {}};
  // Each picture a part of its own: the standard error of the mean.
  if (values.size() >= 2) metric.interval = parts_interval(metric.value, values);
  return metric;
}

ReconstructionQuality::ReconstructionQuality(const Scales& scales, int64_t codes, PictureDistance distance)
    : distance_(std::move(distance)), usage_(scales, codes), scale_psnr_(static_cast<size_t>(scales.count()), 0) {}

void ReconstructionQuality::add(const at::Tensor& pictures, const Reconstruction& made) {
  const at::NoGradGuard no_grad;
  usage_.add(made.tokens);
  append(l1_, (made.pictures() - pictures).abs().flatten(1).mean(1));
  const auto bytes = bytes_from_network_range(pictures);  // (B, H, W, C)
  const auto again = bytes_from_network_range(made.pictures());
  append(psnr_, psnr(bytes, again, 255));
  if (bytes.size(1) >= kSsimSide && bytes.size(2) >= kSsimSide) {
    append(ssim_, ssim(bytes, again));
    if (bytes.size(3) == 3) append(ssim_luma_, ssim_of_luma(bytes, again));
  }
  if (distance_.between) append(distances_, distance_.between(pictures, made.pictures()));
  if (made.after_scale.size() != scale_psnr_.size()) return;
  for (size_t k = 0; k < scale_psnr_.size(); ++k) {
    scale_psnr_[k] += psnr(bytes, bytes_from_network_range(made.after_scale[k]), 255).sum().item<double>();
  }
  pictures_per_scale_ += pictures.size(0);
}

std::vector<Metric> ReconstructionQuality::metrics() const {
  std::vector<Metric> all = {mean_of("l1", "L1", l1_), mean_of("psnr", "PSNR (dB)", psnr_)};
  if (!ssim_.empty()) all.push_back(mean_of("ssim", "SSIM", ssim_));
  if (!ssim_luma_.empty()) all.push_back(mean_of("ssim_luma", "SSIM of luma", ssim_luma_));
  if (distance_.between) all.push_back(mean_of(distance_.name, distance_.title, distances_));
  return all;
}

std::vector<std::string> ReconstructionQuality::left_out() const {
  if (ssim_.empty()) return {"ssim: its window of 11 pixels does not fit into the pictures"};
  return {};
}

std::vector<double> ReconstructionQuality::psnr_per_scale() const {
  if (pictures_per_scale_ == 0) return {};
  auto means = scale_psnr_;
  for (auto& mean : means) mean /= static_cast<double>(pictures_per_scale_);
  return means;
}

}  // namespace nextscale
