#include "nextscale/networks/dino_discriminator.h"

#include <algorithm>
#include <memory>
#include <numbers>
#include <string>

#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/container/modulelist.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"

namespace nextscale {
namespace {

constexpr double kEpsilon = 1e-6, kMomentum = 0.1, kSlope = 0.2;
constexpr int64_t kVirtualBatch = 8, kGroups = 32, kKernel = 9;

int64_t parts_of(int64_t batch) { return std::max<int64_t>((batch + kVirtualBatch - 1) / kVirtualBatch, 1); }
bool splits(int64_t batch) { return batch % parts_of(batch) == 0; }

}  // namespace

int64_t virtual_batches(int64_t batch) {
  if (splits(batch)) return parts_of(batch);
  int64_t below = batch, above = batch;
  while (!splits(below)) --below;
  while (!splits(above)) ++above;
  throw failure({"virtual batch norm", "a batch cannot be split into equal parts of 8 samples at most",
                 std::to_string(below) + " or " + std::to_string(above), std::to_string(batch)});
}

HeadNormImpl::HeadNormImpl(int64_t width, HeadNormKind kind)
    : kind_(kind),
      weight_(register_parameter("weight", at::ones({width}))),
      bias_(register_parameter("bias", at::zeros({width}))) {
  if (kind != HeadNormKind::batch) return;
  running_mean_ = register_buffer("running_mean", at::zeros({width}));
  running_var_ = register_buffer("running_var", at::ones({width}));
  num_batches_tracked_ = register_buffer("num_batches_tracked", at::zeros({}, at::kLong));
}

torch::Tensor HeadNormImpl::virtual_batch(const torch::Tensor& x) const {
  const int64_t parts = virtual_batches(x.size(0)), samples = x.size(0) / parts, width = x.size(1);
  // Channels of different parts stand side by side: (B / G, G * C, l).
  const auto beside = x.unflatten(0, {parts, samples}).transpose(0, 1).flatten(1, 2);
  const auto normalised = at::batch_norm(beside, weight_.repeat({parts}), bias_.repeat({parts}), {}, {},
                                         /*training=*/true, kMomentum, kEpsilon, /*cudnn_enabled=*/true);
  return normalised.unflatten(1, {parts, width}).transpose(0, 1).flatten(0, 1);
}

torch::Tensor HeadNormImpl::forward(const torch::Tensor& x) {
  switch (kind_) {
    case HeadNormKind::virtual_batch:
      return virtual_batch(x);
    case HeadNormKind::group:
      return at::group_norm(x, kGroups, weight_, bias_, kEpsilon);
    case HeadNormKind::batch:
      break;
  }
  if (is_training()) num_batches_tracked_.add_(1);
  return at::batch_norm(x, weight_, bias_, running_mean_, running_var_, is_training(), kMomentum, kEpsilon,
                        /*cudnn_enabled=*/true);
}

void HeadNormImpl::initialise() {
  const at::NoGradGuard no_grad;
  weight_.fill_(1);
  bias_.zero_();
  if (kind_ != HeadNormKind::batch) return;
  running_mean_.zero_();
  running_var_.fill_(1);
  num_batches_tracked_.zero_();
}

HeadLayerImpl::HeadLayerImpl(int64_t width, int64_t kernel, HeadNormKind norm)
    : convolution_(register_module(
          "0", SpectralConv1d(SpectralConv1dOptions{.in = width, .out = width, .kernel = kernel, .circular = true}))),
      norm_(register_module("1", HeadNorm(width, norm))) {}

torch::Tensor HeadLayerImpl::forward(const torch::Tensor& x) { return at::leaky_relu(norm_(convolution_(x)), kSlope); }

void HeadLayerImpl::initialise(at::Generator generator) {
  convolution_->initialise(generator);
  norm_->initialise();
}

DinoHeadImpl::DinoHeadImpl(int64_t width, HeadNormKind norm)
    : first_(register_module("0", HeadLayer(width, 1, norm))),
      residual_(register_module("1", std::make_shared<torch::nn::Module>("residual"))
                    ->register_module("fn", HeadLayer(width, kKernel, norm))),
      last_(register_module("2", SpectralConv1d(SpectralConv1dOptions{.in = width, .out = 1}))) {}

torch::Tensor DinoHeadImpl::forward(const torch::Tensor& features) {
  const AutocastGuard full_precision(features.device().type(), at::kFloat);
  const auto h = first_(features);
  return last_((residual_(h) + h) / std::numbers::sqrt2);
}

void DinoHeadImpl::initialise(at::Generator generator) {
  first_->initialise(generator);
  residual_->initialise(generator);
  last_->initialise(generator);
}

DinoDiscriminatorImpl::DinoDiscriminatorImpl(const Dino& trunk, HeadNormKind norm) : trunk_(trunk), norm_(norm) {
  torch::nn::ModuleList list;
  for (int64_t i = 0; i < DinoImpl::kTaps; ++i) {
    heads_.emplace_back(trunk->options().width, norm);
    list->push_back(heads_.back());
  }
  register_module("heads", list);
}

torch::Tensor DinoDiscriminatorImpl::forward(const torch::Tensor& pictures, at::Generator draws) {
  check(pictures.sizes());
  return logits(pictures, draw_dino_crop(pictures.size(2), pictures.size(3), draws, trunk_->options().side));
}

torch::Tensor DinoDiscriminatorImpl::logits(const torch::Tensor& pictures, const std::optional<DinoCrop>& crop) {
  check(pictures.sizes());
  const auto taps = trunk_->taps(dino_prepare(pictures, crop, trunk_->options().side));
  std::vector<torch::Tensor> of_heads;
  for (size_t i = 0; i < heads_.size(); ++i) of_heads.push_back(heads_[i](taps[i]).flatten(1));  // (B, 196)
  return at::cat(of_heads, 1);
}

void DinoDiscriminatorImpl::initialise(at::Generator generator) {
  for (auto& head : heads_) head->initialise(generator);
}

void DinoDiscriminatorImpl::check(at::IntArrayRef shape) const {
  if (shape.size() != 4 || (shape[1] != 3 && shape[1] != 1)) {
    throw failure({"DINO discriminator", "cannot take these pictures", "(B, 3 or 1, h, w)", shape_text(shape)});
  }
  if (norm_ == HeadNormKind::virtual_batch) virtual_batches(shape[0]);
}

void DinoDiscriminatorImpl::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  Discriminator::to(device, dtype, non_blocking);
  trunk_->to(device, dtype, non_blocking);
}

void DinoDiscriminatorImpl::to(torch::Dtype dtype, bool non_blocking) {
  Discriminator::to(dtype, non_blocking);
  trunk_->to(dtype, non_blocking);
}

void DinoDiscriminatorImpl::to(torch::Device device, bool non_blocking) {
  Discriminator::to(device, non_blocking);
  trunk_->to(device, non_blocking);
}

}  // namespace nextscale
