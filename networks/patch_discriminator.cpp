#include "nextscale/networks/patch_discriminator.h"

#include <algorithm>

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr const char* kPatchGan = "PatchGAN discriminator";
constexpr int64_t kKernel = 4, kPadding = 1;
constexpr int64_t kWidest = 8;  // times the first width
constexpr double kSlope = 0.2;

}  // namespace

std::vector<PatchDiscriminatorImpl::Layer> PatchDiscriminatorImpl::plan(const PatchDiscriminatorOptions& options) {
  std::vector<Layer> layers{{options.channels, options.width, 2, false}};
  int64_t factor = 1;
  for (int64_t i = 1; i <= options.layers; ++i) {
    const int64_t next = std::min<int64_t>(factor * 2, kWidest);
    layers.push_back({options.width * factor, options.width * next, i < options.layers ? 2 : 1, true});
    factor = next;
  }
  layers.push_back({options.width * factor, 1, 1, false});
  return layers;
}

PatchDiscriminatorImpl::PatchDiscriminatorImpl(const PatchDiscriminatorOptions& options)
    : options_(options), main_(register_module("main", torch::nn::Sequential())) {
  const auto layers = plan(options);
  for (const auto& layer : layers) {
    // No bias before a norm, which takes the mean away again.
    main_->push_back(torch::nn::Conv2d(torch::nn::Conv2dOptions(layer.in, layer.out, kKernel)
                                           .stride(layer.stride)
                                           .padding(kPadding)
                                           .bias(!layer.has_norm)));
    if (layer.has_norm) main_->push_back(torch::nn::BatchNorm2d(layer.out));
    if (&layer != &layers.back()) {
      main_->push_back(torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(kSlope).inplace(true)));
    }
  }
}

torch::Tensor PatchDiscriminatorImpl::forward(const torch::Tensor& pictures, at::Generator /*draws*/) {
  check(pictures.sizes());
  return main_->forward(pictures);
}

void PatchDiscriminatorImpl::initialise(at::Generator generator) {
  const at::NoGradGuard no_grad;
  for (const auto& module : *main_) {
    if (auto* conv = module.ptr()->as<torch::nn::Conv2d>()) {
      draw_normal(conv->weight, 0, 0.02, generator);
      if (conv->bias.defined()) conv->bias.zero_();
    } else if (auto* norm = module.ptr()->as<torch::nn::BatchNorm2d>()) {
      draw_normal(norm->weight, 1, 0.02, generator);
      norm->bias.zero_();
      norm->reset_running_stats();
    }
  }
}

int64_t PatchDiscriminatorImpl::smallest_side() const {
  auto layers = plan(options_);
  std::reverse(layers.begin(), layers.end());
  int64_t side = 1;
  for (const auto& layer : layers) side = (side - 1) * layer.stride + kKernel - 2 * kPadding;
  return side;
}

void PatchDiscriminatorImpl::check(at::IntArrayRef shape) const {
  const auto channels = std::to_string(options_.channels), side = std::to_string(smallest_side());
  if (shape.size() != 4 || shape[1] != options_.channels) {
    throw failure({kPatchGan, "cannot take these pictures", "(B, " + channels + ", h, w)", shape_text(shape)});
  }
  if (std::min(shape[2], shape[3]) < smallest_side()) {
    throw failure({kPatchGan, "the pictures are too small for one logit", "at least " + side + " x " + side,
                   std::to_string(shape[2]) + " x " + std::to_string(shape[3])});
  }
}

}  // namespace nextscale
