#include "nextscale/networks/dino.h"

#include <array>
#include <cmath>
#include <memory>

#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/container/modulelist.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"
#include "nextscale/networks/folded_convolution.h"

namespace nextscale {
namespace {

constexpr const char* kDino = "DINO";
constexpr int64_t kMlpRatio = 4, kQuarters = 4;
// ImageNet's, of RGB in [0, 1].
constexpr std::array<double, 3> kMean{0.485, 0.456, 0.406}, kStd{0.229, 0.224, 0.225};

torch::nn::LayerNorm layer_norm(int64_t width) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}).eps(1e-6));
}

/// A name in the state dict that holds nothing but other names.
torch::nn::Module& group(torch::nn::Module& parent, const char* name) {
  return *parent.register_module(name, std::make_shared<torch::nn::Module>(name));
}

/// bfloat16 and float16 become float32; float64 stays.
torch::Tensor at_least_float32(const torch::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

/// (3, 1, 1), beside `like`
torch::Tensor per_channel(const std::array<double, 3>& values, const torch::Tensor& like) {
  return at::tensor(at::ArrayRef<double>(values), like.options()).view({3, 1, 1});
}

}  // namespace

DinoBlockImpl::DinoBlockImpl(const DinoOptions& options)
    : heads_(options.heads), gelu_(options.gelu), norm1_(register_module("norm1", layer_norm(options.width))) {
  const int64_t width = options.width, hidden = kMlpRatio * width;
  auto& attention = group(*this, "attn");
  qkv_ = attention.register_module("qkv", torch::nn::Linear(width, 3 * width));
  proj_ = attention.register_module("proj", torch::nn::Linear(width, width));
  norm2_ = register_module("norm2", layer_norm(width));
  auto& feed_forward = group(*this, "mlp");
  fc1_ = feed_forward.register_module("fc1", torch::nn::Linear(width, hidden));
  fc2_ = feed_forward.register_module("fc2", torch::nn::Linear(hidden, width));
}

torch::Tensor DinoBlockImpl::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0), length = x.size(1), width = x.size(2);
  const auto qkv =
      qkv_(norm1_(x)).view({batch, length, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4});  // (3, B, H, N, c)
  const auto attended = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]);                 // (B, H, N, c)
  const auto h = x + proj_(attended.transpose(1, 2).reshape({batch, length, width}));
  return h + fc2_(at::gelu(fc1_(norm2_(h)), gelu_ == DinoOptions::Gelu::tanh ? "tanh" : "none"));
}

DinoImpl::DinoImpl(const DinoOptions& options) : options_(options) {
  TORCH_CHECK(options.depth % kQuarters == 0 && options.side % options.patch == 0, "DINO's depth and side");
  const int64_t width = options.width, grid = options.side / options.patch;
  cls_token_ = register_parameter("cls_token", at::zeros({1, 1, width}));
  pos_embed_ = register_parameter("pos_embed", at::zeros({1, 1 + grid * grid, width}));
  proj_ = group(*this, "patch_embed")
              .register_module(
                  "proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, width, options.patch).stride(options.patch)));
  torch::nn::ModuleList list;
  for (int64_t i = 0; i < options.depth; ++i) {
    blocks_.emplace_back(options);
    list->push_back(blocks_.back());
  }
  register_module("blocks", list);
  norm_ = register_module("norm", layer_norm(width));
  for (auto& parameter : parameters()) parameter.set_requires_grad(false);
  eval();
}

torch::Tensor DinoImpl::tokens(const torch::Tensor& pictures) {
  const int64_t patch = options_.patch;
  if (pictures.size(2) % patch != 0 || pictures.size(3) % patch != 0) {
    throw failure({kDino, "the pictures' sides are no multiples of a patch's", std::to_string(patch) + " n",
                   shape_text(pictures.sizes())});
  }
  const auto patches = at_least_float32(proj_(pictures));  // (B, C, rows, columns)
  const auto with_class =
      at::cat({cls_token_.expand({patches.size(0), -1, -1}), patches.flatten(2).transpose(1, 2)}, 1);  // (B, 1 + N, C)
  return with_class + dino_position(pos_embed_, patches.size(2), patches.size(3));
}

std::vector<torch::Tensor> DinoImpl::taps(const torch::Tensor& pictures) {
  auto x = tokens(pictures);
  std::vector<torch::Tensor> taps;
  const auto tap = [&] { taps.push_back((x.slice(1, 1) + x.slice(1, 0, 1)).transpose(1, 2)); };  // (B, C, N)
  tap();
  const size_t quarter = blocks_.size() / kQuarters;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = blocks_[i](x);
    if ((i + 1) % quarter == 0) tap();
  }
  return taps;
}

torch::Tensor DinoImpl::class_token(const torch::Tensor& pictures) {
  auto x = tokens(pictures);
  for (auto& block : blocks_) x = block(x);
  return norm_(x.select(1, 0));
}

torch::Tensor dino_position(const torch::Tensor& embedding, int64_t rows, int64_t columns, PositionResize resize) {
  const int64_t width = embedding.size(2);
  const auto grid = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(embedding.size(1) - 1))));
  if (rows == grid && columns == grid) return embedding;
  const auto map = embedding.slice(1, 1).transpose(1, 2).reshape({1, width, grid, grid});
  const auto factor = [&](int64_t side) { return (static_cast<double>(side) + 0.1) / static_cast<double>(grid); };
  const auto resized =
      resize == PositionResize::bilinear
          ? at::upsample_bilinear2d(map, {rows, columns}, /*align_corners=*/false)
          : at::upsample_bicubic2d(map, {rows, columns}, /*align_corners=*/false, factor(rows), factor(columns));
  return at::cat({embedding.slice(1, 0, 1), resized.flatten(2).transpose(1, 2)}, 1);
}

std::optional<DinoCrop> draw_dino_crop(int64_t height, int64_t width, at::Generator draws, int64_t side) {
  if (height <= side || width < side) return {};
  const auto numbers = at::empty({3}, at::kDouble).uniform_(0, 1, draws);  // in [0, 1)
  const double* u = numbers.const_data_ptr<double>();
  const auto below = [](double u, int64_t end) { return static_cast<int64_t>(u * static_cast<double>(end)); };
  if (u[0] >= 0.5) return {};
  return DinoCrop{.top = below(u[1], height - side + 1), .left = below(u[2], width - side + 1)};
}

torch::Tensor dino_prepare(const torch::Tensor& pictures, const std::optional<DinoCrop>& crop, int64_t side) {
  if (pictures.dim() != 4 || (pictures.size(1) != 3 && pictures.size(1) != 1)) {
    throw failure({kDino, "cannot take these pictures", "(B, 3 or 1, h, w)", shape_text(pictures.sizes())});
  }
  const int64_t height = pictures.size(2), width = pictures.size(3);
  auto x = at_least_float32(pictures);
  if (crop) {
    if (crop->top < 0 || crop->left < 0 || crop->top + side > height || crop->left + side > width) {
      throw failure({kDino, "the crop leaves the picture", "inside " + shape_text(pictures.sizes()),
                     shape_text(std::array{crop->top, crop->left})});
    }
    x = x.slice(2, crop->top, crop->top + side).slice(3, crop->left, crop->left + side);
  } else if (height > side) {
    x = at::adaptive_avg_pool2d(x, {side, side});
  } else if (height != side || width != side) {
    x = at::upsample_bicubic2d(x, {side, side}, /*align_corners=*/false);
  }
  const auto mean = per_channel(kMean, x), std = per_channel(kStd, x);
  return (x.expand({-1, 3, -1, -1}) - (2 * mean - 1)) / (2 * std);  // of x in [-1, 1]
}

Dino load_dino(const std::filesystem::path& path, DinoOptions::Gelu gelu) {
  if (!std::filesystem::exists(path)) {
    throw failure(
        {path.string(), "is not there; 'scripts/download-weights.sh FOLDER dino_deitsmall16_pretrain.pth' fetches it"});
  }
  Dino network(DinoOptions{.gelu = gelu});
  load_published(*network, read_weights(path).tensors, path.string());
  return network;
}

}  // namespace nextscale
