#include "nextscale/networks/vgg16.h"

#include <array>
#include <string>

#include <ATen/ATen.h>

namespace nextscale {
namespace {

struct VggStage {
  int64_t depth, width;
};
constexpr std::array<VggStage, 5> kVggStages{{{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}};

}  // namespace

Vgg16Impl::Vgg16Impl() {
  const auto features = register_module("features", std::make_shared<torch::nn::Module>());
  int64_t index = 0, in = 3;
  for (const auto& stage : kVggStages) {
    auto& convolutions = stages_.emplace_back();
    for (int64_t i = 0; i < stage.depth; ++i) {
      const torch::nn::Conv2d convolution(torch::nn::Conv2dOptions(in, stage.width, 3).padding(1));
      convolutions.push_back(features->register_module(std::to_string(index), convolution));
      in = stage.width;
      index += 2;  // its ReLU has a number, too
    }
    index += 1;  // and so has the pool
  }
  freeze();
}

std::vector<torch::Tensor> Vgg16Impl::taps(const torch::Tensor& x) {
  std::vector<torch::Tensor> taps;
  auto h = x;
  for (auto& convolutions : stages_) {
    if (!taps.empty()) h = at::max_pool2d(h, {2, 2}, {2, 2});
    for (auto& convolution : convolutions) h = convolution(h).relu_();
    taps.push_back(h);
  }
  return taps;
}

std::vector<int64_t> Vgg16Impl::widths() const {
  std::vector<int64_t> widths;
  for (const auto& stage : kVggStages) widths.push_back(stage.width);
  return widths;
}

}  // namespace nextscale
