#include "nextscale/networks/efficientnet_lite0.h"

#include <algorithm>
#include <array>
#include <string>

#include <ATen/ATen.h>
#include <torch/nn/modules/container/modulelist.h>

#include "nextscale/io/weights.h"

namespace nextscale {
namespace {

constexpr int64_t kStemWidth = 32;

struct Stage {
  int64_t repeats, kernel, stride, expansion, width;
};
constexpr std::array<Stage, 7> kStages{{{1, 3, 1, 1, 16},
                                        {2, 3, 2, 6, 24},
                                        {2, 5, 2, 6, 40},
                                        {3, 3, 2, 6, 80},
                                        {3, 5, 1, 6, 112},
                                        {4, 5, 2, 6, 192},
                                        {1, 3, 1, 6, 320}}};

std::vector<Lite0Block> make_blocks(torch::nn::Module& parent) {
  torch::nn::ModuleList list;
  std::vector<Lite0Block> blocks;
  int64_t width = kStemWidth;
  for (const auto& stage : kStages) {
    for (int64_t i = 0; i < stage.repeats; ++i) {
      blocks.emplace_back(Lite0BlockOptions{.in = width,
                                            .out = stage.width,
                                            .kernel = stage.kernel,
                                            .stride = i == 0 ? stage.stride : 1,
                                            .expansion = stage.expansion});
      list->push_back(blocks.back());
      width = stage.width;
    }
  }
  parent.register_module("_blocks", list);
  return blocks;
}

std::optional<Lite0Convolution> make_expansion(torch::nn::Module& parent, const Lite0BlockOptions& options) {
  if (options.expansion == 1) return {};
  return Lite0Convolution(parent, "_expand_conv", "_bn0", {.in = options.in, .out = options.in * options.expansion});
}

torch::Tensor relu6_(torch::Tensor x) { return x.clamp_(0, 6); }

}  // namespace

SamePadding same_padding(int64_t length, int64_t kernel, int64_t stride) {
  const int64_t outputs = (length + stride - 1) / stride;
  const int64_t total = std::max<int64_t>((outputs - 1) * stride + kernel - length, 0);
  return {total / 2, total - total / 2};
}

Lite0Convolution::Lite0Convolution(torch::nn::Module& parent, const char* conv, const char* norm,
                                   const Lite0ConvolutionOptions& options)
    : conv_(parent.register_module(conv,
                                   torch::nn::Conv2d(torch::nn::Conv2dOptions(options.in, options.out, options.kernel)
                                                         .stride(options.stride)
                                                         .groups(options.depthwise ? options.in : 1)
                                                         .bias(false)))),
      norm_(
          parent.register_module(norm, torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(options.out).eps(1e-3)))) {}

torch::Tensor Lite0Convolution::operator()(const torch::Tensor& x) {
  const int64_t kernel = conv_->weight.size(2), stride = (*conv_->options.stride())[0];
  const auto rows = same_padding(x.size(2), kernel, stride), columns = same_padding(x.size(3), kernel, stride);
  auto padded = x;
  std::array<int64_t, 2> padding{rows.before, columns.before};
  if (rows.before != rows.after || columns.before != columns.after) {
    padded = at::constant_pad_nd(x, {columns.before, columns.after, rows.before, rows.after});
    padding = {0, 0};
  }
  const bool is_folded = folded_.weight.defined();
  const auto convolved = at::conv2d(padded, is_folded ? folded_.weight : conv_->weight, folded_.bias, stride, padding,
                                    1, conv_->options.groups());
  return is_folded ? convolved : norm_(convolved);
}

bool Lite0Convolution::folded_elsewhere(c10::Device device) const {
  return folded_.weight.defined() && folded_.weight.device() != device;
}

Lite0BlockImpl::Lite0BlockImpl(const Lite0BlockOptions& options)
    : expand_(make_expansion(*this, options)),
      depthwise_(*this, "_depthwise_conv", "_bn1",
                 {.in = options.in * options.expansion,
                  .out = options.in * options.expansion,
                  .kernel = options.kernel,
                  .stride = options.stride,
                  .depthwise = true}),
      project_(*this, "_project_conv", "_bn2", {.in = options.in * options.expansion, .out = options.out}),
      skips_(options.stride == 1 && options.in == options.out) {}

torch::Tensor Lite0BlockImpl::forward(const torch::Tensor& x) {
  auto h = expand_ ? relu6_((*expand_)(x)) : x;  // (B, in * expansion, h, w)
  h = project_(relu6_(depthwise_(h)));           // (B, out, h', w')
  return skips_ ? h.add_(x) : h;
}

void Lite0BlockImpl::fold() {
  if (expand_) expand_->fold();
  depthwise_.fold();
  project_.fold();
}

EfficientNetLite0Impl::EfficientNetLite0Impl()
    : stem_(*this, "_conv_stem", "_bn0", {.in = 3, .out = kStemWidth, .kernel = 3, .stride = 2}),
      blocks_(make_blocks(*this)),
      head_(*this, "_conv_head", "_bn1", {.in = kStages.back().width, .out = kFeatureWidth}),
      fc_(register_module("_fc", torch::nn::Linear(kFeatureWidth, kClasses))) {}

torch::Tensor EfficientNetLite0Impl::stem(const torch::Tensor& pictures) {
  if (stem_.folded_elsewhere(pictures.device())) fold();
  return relu6_(stem_(pictures.contiguous(at::MemoryFormat::ChannelsLast)));
}

torch::Tensor EfficientNetLite0Impl::features(const torch::Tensor& pictures) {
  auto h = stem(pictures);
  for (auto& block : blocks_) h = block(h);
  return relu6_(head_(h)).mean(at::IntArrayRef({2, 3}));
}

torch::Tensor EfficientNetLite0Impl::logits(const torch::Tensor& features) { return fc_(features); }

void EfficientNetLite0Impl::fold() {
  stem_.fold();
  for (auto& block : blocks_) block->fold();
  head_.fold();
}

torch::Tensor lite0_range(const torch::Tensor& pictures) { return (pictures.to(at::kFloat) - 127) / 128; }

EfficientNetLite0 load_efficientnet_lite0(const std::filesystem::path& path) {
  EfficientNetLite0 network;
  load_published(*network, read_weights(path).tensors, path.string());
  network->eval();
  network->fold();
  return network;
}

}  // namespace nextscale
