#include "nextscale/vqvae/phi.h"

#include <cmath>
#include <string>

#include <torch/nn/modules/container/modulelist.h>

namespace nextscale {
namespace {

torch::nn::Conv2d phi_conv(int64_t width) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(width, width, 3).padding(1));
}

// numpy.linspace(margin, 1 - margin, count) with its rounding: at 1/2 two of four ticks are equally near but for the
// last bit, and published weights were trained with the choice that bit makes.
std::vector<double> ticks(int64_t count) {
  const auto n = static_cast<double>(count);
  const double margin = count == 4 ? 1.0 / 3.0 / n : 1.0 / 2.0 / n;
  const double last = 1 - margin;
  const double step = count > 1 ? (last - margin) / (n - 1) : 0;
  std::vector<double> at(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) at[static_cast<size_t>(i)] = static_cast<double>(i) * step + margin;
  at.back() = count > 1 ? last : margin;
  return at;
}

}  // namespace

int64_t phi_index(int64_t k, int64_t scales, int64_t count) {
  if (scales == 1) return 0;
  const double position = static_cast<double>(k) / static_cast<double>(scales - 1);
  const auto all = ticks(count);
  size_t best = 0;
  for (size_t i = 1; i < all.size(); ++i) {
    if (std::abs(all[i] - position) < std::abs(all[best] - position)) best = i;
  }
  return static_cast<int64_t>(best);
}

PhisImpl::PhisImpl(const PhiOptions& options)
    : ratio_(std::abs(options.ratio)), count_(options.share == 0 ? options.scales : options.share) {
  if (ratio_ <= 1e-6) return;
  for (int64_t i = 0; i < count_; ++i) convs_.push_back(phi_conv(options.width));
  if (options.share == 1) {
    register_module("qresi", convs_.front());
    return;
  }
  if (options.share == 0) {
    for (int64_t i = 0; i < count_; ++i) register_module(std::to_string(i), convs_[static_cast<size_t>(i)]);
    return;
  }
  const auto list = register_module("qresi_ls", torch::nn::ModuleList());
  for (const auto& conv : convs_) list->push_back(conv);
}

torch::Tensor PhisImpl::forward(const torch::Tensor& x, int64_t k, int64_t scales) {
  if (convs_.empty()) return x;
  auto& conv = convs_[static_cast<size_t>(phi_index(k, scales, count_))];
  return x * (1 - ratio_) + conv(x).mul_(ratio_);
}

}  // namespace nextscale
