#include "nextscale/networks/perceptual_distance.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/networks/folded_convolution.h"

namespace nextscale {
namespace {

/// Half-precision maps squared and summed would lose what the distance is made of.
torch::Tensor in_float(const torch::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

torch::Tensor per_channel(const std::array<double, 3>& values) {
  return at::tensor(at::ArrayRef<double>(values), at::kFloat).view({3, 1, 1});
}

/// lin0, lin1, … of one convolution 1×1 without bias each, nested and named as published.
torch::Tensor add_head(torch::nn::Module& heads, size_t k, int64_t width) {
  const auto lin = heads.register_module(fmt::format("lin{}", k), std::make_shared<torch::nn::Module>());
  const auto model = lin->register_module("model", std::make_shared<torch::nn::Module>());
  const auto convolution = model->register_module("1", std::make_shared<torch::nn::Module>());
  return convolution->register_buffer("weight", at::ones({1, width, 1, 1}));
}

}  // namespace

torch::Tensor unit_length(const torch::Tensor& x, UnitForm form) {
  const auto squares = x.square().sum(1, /*keepdim=*/true);  // (B, 1, h, w)
  return x / ((form == UnitForm::training ? squares + 1e-9 : squares).sqrt() + 1e-10);
}

PerceptualDistanceImpl::PerceptualDistanceImpl(std::shared_ptr<PerceptualTrunk> trunk,
                                               const PerceptualDistanceOptions& options)
    : options_(options),
      trunk_(register_module("trunk", std::move(trunk))),
      shift_(register_buffer("shift", per_channel(options.range.shift))),
      scale_(register_buffer("scale", per_channel(options.range.scale))) {
  if (options.has_heads) {
    heads_ = register_module("heads", std::make_shared<torch::nn::Module>());
    for (const auto width : trunk_->widths()) head_weights_.push_back(add_head(*heads_, head_weights_.size(), width));
  }
  eval();
}

torch::Tensor PerceptualDistanceImpl::forward(const torch::Tensor& x0, const torch::Tensor& x1) {
  return distance(features(x0), features(x1));
}

std::vector<torch::Tensor> PerceptualDistanceImpl::layer_distances(const torch::Tensor& x0, const torch::Tensor& x1) {
  const auto features0 = features(x0), features1 = features(x1);
  std::vector<torch::Tensor> terms;
  for (size_t k = 0; k < features0.size(); ++k) terms.push_back(term(k, features0[k], features1[k]));
  return terms;
}

std::vector<torch::Tensor> PerceptualDistanceImpl::features(const torch::Tensor& x) {
  auto maps = taps(x);
  for (auto& map : maps) map = unit_length(in_float(map), options_.unit);
  return maps;
}

torch::Tensor PerceptualDistanceImpl::distance(const std::vector<torch::Tensor>& features0,
                                               const std::vector<torch::Tensor>& features1) {
  TORCH_CHECK(!features0.empty() && features0.size() == features1.size(), "features of the same network");
  auto sum = term(0, features0[0], features1[0]);  // (B)
  for (size_t k = 1; k < features0.size(); ++k) sum = sum + term(k, features0[k], features1[k]);
  return sum;
}

std::vector<torch::Tensor> PerceptualDistanceImpl::taps(const torch::Tensor& x) { return trunk_->taps(prepared(x)); }

torch::Tensor PerceptualDistanceImpl::prepared(const torch::Tensor& x) const {
  TORCH_CHECK(x.dim() == 4 && (x.size(1) == 3 || x.size(1) == 1), "pictures are (B, 3 or 1, h, w)");
  if (const auto side = smallest_side(); std::min(x.size(2), x.size(3)) < side) {
    throw failure({.where = options_.name,
                   .what = "pictures are too small",
                   .expected = fmt::format("{0} x {0} pixels or more", side),
                   .got = fmt::format("{} x {}", x.size(2), x.size(3))});
  }
  auto colour = in_float(x).expand({-1, 3, -1, -1});  // (B, 3, h, w)
  if (options_.range.is_bgr) colour = colour.flip(1);
  return ((colour - shift_) / scale_).contiguous(at::MemoryFormat::ChannelsLast);
}

torch::Tensor PerceptualDistanceImpl::term(size_t k, const torch::Tensor& unit0, const torch::Tensor& unit1) const {
  auto squared = (unit0 - unit1).square();  // (B, C_k, h_k, w_k)
  // not a convolution, which autocast would take to lower precision
  if (!head_weights_.empty()) squared = squared.mul_(head_weights_[k]);
  return squared.sum(1).mean(at::IntArrayRef({1, 2}));
}

void PerceptualDistanceImpl::load_trunk(const NamedTensors& weights, const std::string& where) {
  NamedTensors used;
  std::copy_if(weights.begin(), weights.end(), std::back_inserter(used),
               [](const auto& entry) { return !entry.first.starts_with("classifier."); });
  load_published(*trunk_, used, where);
}

void PerceptualDistanceImpl::load_heads(const NamedTensors& weights, const std::string& where) {
  TORCH_CHECK(heads_ != nullptr, "has no heads");
  for (const auto& [name, tensor] : weights) {
    if (tensor.numel() > 0 && tensor.min().item<double>() < 0) {
      throw failure({.where = where + ": " + name, .what = "holds negative weights", .expected = "0 or more"});
    }
  }
  load_published(*heads_, weights, where);
}

void PerceptualDistanceImpl::train(bool) { torch::nn::Module::train(false); }

}  // namespace nextscale
