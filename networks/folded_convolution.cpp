#include "nextscale/networks/folded_convolution.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"

namespace nextscale {

FoldedConvolutionImpl::FoldedConvolutionImpl(const FoldedConvolutionOptions& options)
    : conv_(register_module(
          "conv", torch::nn::Conv2d(
                      torch::nn::Conv2dOptions(options.in, options.out, {options.kernel.at(0), options.kernel.at(1)})
                          .stride(options.stride)
                          .padding(torch::ExpandingArray<2>({options.padding.at(0), options.padding.at(1)}))
                          .bias(false)))),
      bn_(register_module("bn", torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(options.out).eps(0.001)))) {}

torch::Tensor FoldedConvolutionImpl::forward(const torch::Tensor& x) {
  if (!weight_.defined()) return at::relu(bn_(conv_(x)));
  const auto& options = conv_->options;
  const auto padding = std::get<torch::ExpandingArray<2>>(options.padding());
  return at::conv2d(x, weight_, bias_, *options.stride(), *padding).relu_();
}

void FoldedConvolutionImpl::fold() {
  const auto made = folded(conv_->weight, bn_);
  weight_ = made.weight;
  bias_ = made.bias;
}

FoldedWeights folded(const torch::Tensor& convolution, const torch::nn::BatchNorm2d& norm) {
  const at::NoGradGuard no_grad;
  const auto scale = norm->weight.to(at::kDouble) / (norm->running_var.to(at::kDouble) + norm->options.eps()).sqrt();
  const auto weight = convolution.to(at::kDouble) * scale.view({-1, 1, 1, 1});
  const auto bias = norm->bias.to(at::kDouble) - norm->running_mean.to(at::kDouble) * scale;
  return {weight.to(at::kFloat).contiguous(at::MemoryFormat::ChannelsLast), bias.to(at::kFloat)};
}

void load_published(torch::nn::Module& module, const NamedTensors& weights, const std::string& where) {
  static const std::string kCounter = "num_batches_tracked";
  NamedTensors complete;
  for (const auto& [name, tensor] : weights) {
    if (!name.ends_with(kCounter)) complete.emplace_back(name, tensor);
  }
  for (const auto& [name, tensor] : state_dict(module)) {
    if (name.ends_with(kCounter)) complete.emplace_back(name, tensor);
  }
  for (const auto& [name, tensor] : complete) {
    if (tensor.is_floating_point() && !tensor.isfinite().all().item<bool>()) {
      throw failure({.where = where + ": " + name, .what = "holds values that are not finite"});
    }
  }
  load_state_dict(module, complete, where);
}

}  // namespace nextscale
