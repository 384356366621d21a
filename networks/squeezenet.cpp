#include "nextscale/networks/squeezenet.h"

#include <array>
#include <string>

#include <ATen/ATen.h>

namespace nextscale {
namespace {

constexpr int64_t kFirstWidth = 64;

struct FireRow {
  int64_t index;  // among `features`
  FireOptions options;
  bool behind_pool, is_tap;
};
constexpr std::array<FireRow, 8> kFires{{{3, {64, 16, 64}, true, false},
                                         {4, {128, 16, 64}, false, true},
                                         {6, {128, 32, 128}, true, false},
                                         {7, {256, 32, 128}, false, true},
                                         {9, {256, 48, 192}, true, true},
                                         {10, {384, 48, 192}, false, true},
                                         {11, {384, 64, 256}, false, true},
                                         {12, {512, 64, 256}, false, true}}};

torch::nn::Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t padding) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, kernel).padding(padding));
}

torch::Tensor pooled(const torch::Tensor& x) {
  return at::max_pool2d(x, {3, 3}, {2, 2}, {0, 0}, {1, 1}, /*ceil_mode=*/true);
}

}  // namespace

FireImpl::FireImpl(const FireOptions& options)
    : squeeze_(register_module("squeeze", convolution(options.in, options.squeeze, 1, 0))),
      expand1x1_(register_module("expand1x1", convolution(options.squeeze, options.expand, 1, 0))),
      expand3x3_(register_module("expand3x3", convolution(options.squeeze, options.expand, 3, 1))) {}

torch::Tensor FireImpl::forward(const torch::Tensor& x) {
  const auto h = squeeze_(x).relu_();                         // (B, squeeze, h, w)
  return at::cat({expand1x1_(h), expand3x3_(h)}, 1).relu_();  // (B, 2 * expand, h, w)
}

SqueezeNetImpl::SqueezeNetImpl() {
  const auto features = register_module("features", std::make_shared<torch::nn::Module>());
  stem_ = features->register_module("0", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, kFirstWidth, 3).stride(2)));
  for (const auto& row : kFires) {
    fires_.push_back(features->register_module(std::to_string(row.index), Fire(row.options)));
  }
  freeze();
}

std::vector<torch::Tensor> SqueezeNetImpl::taps(const torch::Tensor& x) {
  auto h = stem_(x).relu_();
  std::vector<torch::Tensor> taps{h};
  for (size_t i = 0; i < kFires.size(); ++i) {
    h = fires_[i](kFires[i].behind_pool ? pooled(h) : h);
    if (kFires[i].is_tap) taps.push_back(h);
  }
  return taps;
}

std::vector<int64_t> SqueezeNetImpl::widths() const {
  std::vector<int64_t> widths{kFirstWidth};
  for (const auto& row : kFires) {
    if (row.is_tap) widths.push_back(2 * row.options.expand);
  }
  return widths;
}

}  // namespace nextscale
