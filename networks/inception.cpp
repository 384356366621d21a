#include "nextscale/networks/inception.h"

#include <algorithm>
#include <array>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"

namespace nextscale {
namespace {

using Kind = InceptionBlockImpl::Kind;
using Pool = InceptionBlockImpl::Pool;

torch::Tensor halved(const torch::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); }

/// The network's graph leaves the padding out of the means.
torch::Tensor average_around(const torch::Tensor& x) {
  return at::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false, /*count_include_pad=*/false);
}

torch::Tensor mean_over_map(const torch::Tensor& x) { return x.mean(at::IntArrayRef({2, 3})); }

struct BlockRow {
  const char* name;
  Kind kind;
  int64_t in, width;
  Pool pool = Pool::average;
};
// width: of the pool branch in kind a, of the 7x1 and 1x7 convolutions in kind c
constexpr std::array<BlockRow, 11> kBlocks{{{"Mixed_5b", Kind::a, 192, 32},
                                            {"Mixed_5c", Kind::a, 256, 64},
                                            {"Mixed_5d", Kind::a, 288, 64},
                                            {"Mixed_6a", Kind::b, 288, 0},
                                            {"Mixed_6b", Kind::c, 768, 128},
                                            {"Mixed_6c", Kind::c, 768, 160},
                                            {"Mixed_6d", Kind::c, 768, 160},
                                            {"Mixed_6e", Kind::c, 768, 192},
                                            {"Mixed_7a", Kind::d, 768, 0},
                                            {"Mixed_7b", Kind::e, 1280, 0},
                                            {"Mixed_7c", Kind::e, 2048, 0, Pool::maximum}}};
constexpr size_t kMixed6d = 6, kMixed6e = 7;

}  // namespace

FoldedConvolution InceptionBlockImpl::add(const std::string& name, int64_t in, int64_t out, std::vector<int64_t> kernel,
                                          std::vector<int64_t> padding, int64_t stride) {
  FoldedConvolution convolution(FoldedConvolutionOptions{
      .in = in, .out = out, .kernel = std::move(kernel), .padding = std::move(padding), .stride = stride});
  convolutions_.emplace_back(name, register_module(name, convolution));
  return convolution;
}

InceptionBlockImpl::InceptionBlockImpl(Kind kind, int64_t in, int64_t width, Pool pool) : kind_(kind), pool_(pool) {
  switch (kind) {
    case Kind::a:
      add("branch1x1", in, 64, {1, 1});
      add("branch5x5_1", in, 48, {1, 1});
      add("branch5x5_2", 48, 64, {5, 5}, {2, 2});
      add("branch3x3dbl_1", in, 64, {1, 1});
      add("branch3x3dbl_2", 64, 96, {3, 3}, {1, 1});
      add("branch3x3dbl_3", 96, 96, {3, 3}, {1, 1});
      add("branch_pool", in, width, {1, 1});
      return;
    case Kind::b:
      add("branch3x3", in, 384, {3, 3}, {0, 0}, 2);
      add("branch3x3dbl_1", in, 64, {1, 1});
      add("branch3x3dbl_2", 64, 96, {3, 3}, {1, 1});
      add("branch3x3dbl_3", 96, 96, {3, 3}, {0, 0}, 2);
      return;
    case Kind::c:
      add("branch1x1", in, 192, {1, 1});
      add("branch7x7_1", in, width, {1, 1});
      add("branch7x7_2", width, width, {1, 7}, {0, 3});
      add("branch7x7_3", width, 192, {7, 1}, {3, 0});
      add("branch7x7dbl_1", in, width, {1, 1});
      add("branch7x7dbl_2", width, width, {7, 1}, {3, 0});
      add("branch7x7dbl_3", width, width, {1, 7}, {0, 3});
      add("branch7x7dbl_4", width, width, {7, 1}, {3, 0});
      add("branch7x7dbl_5", width, 192, {1, 7}, {0, 3});
      add("branch_pool", in, 192, {1, 1});
      return;
    case Kind::d:
      add("branch3x3_1", in, 192, {1, 1});
      add("branch3x3_2", 192, 320, {3, 3}, {0, 0}, 2);
      add("branch7x7x3_1", in, 192, {1, 1});
      add("branch7x7x3_2", 192, 192, {1, 7}, {0, 3});
      add("branch7x7x3_3", 192, 192, {7, 1}, {3, 0});
      add("branch7x7x3_4", 192, 192, {3, 3}, {0, 0}, 2);
      return;
    case Kind::e:
      add("branch1x1", in, 320, {1, 1});
      add("branch3x3_1", in, 384, {1, 1});
      add("branch3x3_2a", 384, 384, {1, 3}, {0, 1});
      add("branch3x3_2b", 384, 384, {3, 1}, {1, 0});
      add("branch3x3dbl_1", in, 448, {1, 1});
      add("branch3x3dbl_2", 448, 384, {3, 3}, {1, 1});
      add("branch3x3dbl_3a", 384, 384, {1, 3}, {0, 1});
      add("branch3x3dbl_3b", 384, 384, {3, 1}, {1, 0});
      add("branch_pool", in, 192, {1, 1});
      return;
  }
}

torch::Tensor InceptionBlockImpl::run(const char* name, const torch::Tensor& x) {
  const auto found = std::find_if(convolutions_.begin(), convolutions_.end(),
                                  [&](const auto& convolution) { return convolution.first == name; });
  return found->second(x);
}

torch::Tensor InceptionBlockImpl::chain(const torch::Tensor& x, std::initializer_list<const char*> names) {
  auto h = x;
  for (const char* name : names) h = run(name, h);
  return h;
}

torch::Tensor InceptionBlockImpl::forward(const torch::Tensor& x) {
  switch (kind_) {
    case Kind::a:
      return at::cat(
          {run("branch1x1", x), chain(x, {"branch5x5_1", "branch5x5_2"}),
           chain(x, {"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}), run("branch_pool", average_around(x))},
          1);
    case Kind::b:
      return at::cat({run("branch3x3", x), chain(x, {"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}), halved(x)},
                     1);
    case Kind::c:
      branch1x1_output_ = run("branch1x1", x);
      return at::cat(
          {branch1x1_output_, chain(x, {"branch7x7_1", "branch7x7_2", "branch7x7_3"}),
           chain(x, {"branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"}),
           run("branch_pool", average_around(x))},
          1);
    case Kind::d:
      return at::cat({chain(x, {"branch3x3_1", "branch3x3_2"}),
                      chain(x, {"branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"}), halved(x)},
                     1);
    case Kind::e:
      break;
  }
  const auto single = run("branch3x3_1", x), twice = chain(x, {"branch3x3dbl_1", "branch3x3dbl_2"});
  const auto pooled = pool_ == Pool::maximum ? at::max_pool2d(x, {3, 3}, {1, 1}, {1, 1}) : average_around(x);
  return at::cat({run("branch1x1", x), run("branch3x3_2a", single), run("branch3x3_2b", single),
                  run("branch3x3dbl_3a", twice), run("branch3x3dbl_3b", twice), run("branch_pool", pooled)},
                 1);
}

void InceptionBlockImpl::fold() {
  for (auto& [name, convolution] : convolutions_) convolution->fold();
}

InceptionImpl::InceptionImpl() {
  const auto stem = [&](const char* name, FoldedConvolutionOptions options) {
    return register_module(name, FoldedConvolution(options));
  };
  conv_1a_ = stem("Conv2d_1a_3x3", {.in = 3, .out = 32, .kernel = {3, 3}, .stride = 2});
  conv_2a_ = stem("Conv2d_2a_3x3", {.in = 32, .out = 32, .kernel = {3, 3}});
  conv_2b_ = stem("Conv2d_2b_3x3", {.in = 32, .out = 64, .kernel = {3, 3}, .padding = {1, 1}});
  conv_3b_ = stem("Conv2d_3b_1x1", {.in = 64, .out = 80, .kernel = {1, 1}});
  conv_4a_ = stem("Conv2d_4a_3x3", {.in = 80, .out = 192, .kernel = {3, 3}});
  for (const auto& row : kBlocks) {
    blocks_.push_back(register_module(row.name, InceptionBlock(row.kind, row.in, row.width, row.pool)));
  }
  fc_ = register_module("fc", torch::nn::Linear(2048, 1008));
}

InceptionFeatures InceptionImpl::forward(const torch::Tensor& pictures) {
  TORCH_CHECK(pictures.dim() == 4 && pictures.sizes().slice(1) == at::IntArrayRef({3, 299, 299}), "(B, 3, 299, 299)");
  InceptionFeatures features;
  auto h = pictures.contiguous(at::MemoryFormat::ChannelsLast);
  h = halved(conv_2b_(conv_2a_(conv_1a_(h))));  // (B, 64, 73, 73)
  features.pool_64 = mean_over_map(h);
  h = halved(conv_4a_(conv_3b_(h)));  // (B, 192, 35, 35)
  features.pool_192 = mean_over_map(h);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    h = blocks_[i](h);  // (B, 288, 35, 35), (B, 768, 17, 17), (B, 2048, 8, 8)
    if (i == kMixed6d) {
      features.spatial = blocks_[i]->branch1x1().slice(1, 0, 7).permute({0, 2, 3, 1}).flatten(1);
    }
    if (i == kMixed6e) features.pool_768 = mean_over_map(h);
    blocks_[i]->forget();
  }
  features.pool = mean_over_map(h);
  return features;
}

torch::Tensor InceptionImpl::logits_unbiased(const torch::Tensor& pool) { return at::linear(pool, fc_->weight); }

torch::Tensor InceptionImpl::logits(const torch::Tensor& pool) { return fc_(pool); }

void InceptionImpl::fold() {
  for (auto* convolution : {&conv_1a_, &conv_2a_, &conv_2b_, &conv_3b_, &conv_4a_}) (*convolution)->fold();
  for (auto& block : blocks_) block->fold();
}

Inception load_inception(const std::filesystem::path& path) {
  const auto file = read_weights(path);
  Inception network;
  load_published(*network, file.tensors, path.string());
  network->eval();
  network->fold();
  return network;
}

}  // namespace nextscale
