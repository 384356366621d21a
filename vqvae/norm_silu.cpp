#include "nextscale/vqvae/norm_silu.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nextscale/vqvae/norm_silu_kernels.h"

namespace nextscale {
namespace {

constexpr auto kOrder = at::MemoryFormat::ChannelsLast;

struct Shape {
  int64_t batch, channels, positions, groups;
  int64_t values() const { return channels * positions; }  // of a picture
  int64_t width() const { return channels / groups; }
};
Shape shape_of(const at::Tensor& x, int64_t groups) { return {x.size(0), x.size(1), x.size(2) * x.size(3), groups}; }

// Values of a channels-last tensor as float32 and back.
void read_values(const at::Tensor& x, int64_t first, int64_t count, float* to) {
  if (x.scalar_type() == at::kFloat) {
    std::copy_n(x.const_data_ptr<float>() + first, count, to);
  } else {
    kernels::bfloat16_to_float(static_cast<const uint16_t*>(x.const_data_ptr()) + first, to, count);
  }
}
void write_values(const float* from, const at::Tensor& x, int64_t first, int64_t count) {
  if (x.scalar_type() == at::kFloat) {
    std::copy_n(from, count, x.mutable_data_ptr<float>() + first);
  } else {
    kernels::float_to_bfloat16(from, static_cast<uint16_t*>(x.mutable_data_ptr()) + first, count);
  }
}

constexpr int64_t kRows = 256;  // positions at a time: so float32 sums stay short, and a block in the nearest caches

// block(first row, rows) for all of them; side by side where not whole pictures already are.
template <class Block>
void for_blocks(const Shape& shape, const Block& block) {
  at::parallel_for(0, (shape.positions + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) block(i * kRows, std::min(kRows, shape.positions - i * kRows));
  });
}

// Channels' sums over all positions: kernel(first row, rows, sums).
template <class Kernel>
std::vector<double> channel_sums(const Shape& shape, const Kernel& kernel) {
  const auto channels = static_cast<size_t>(shape.channels);
  std::vector<float> sums(channels * static_cast<size_t>((shape.positions + kRows - 1) / kRows), 0.0f);
  for_blocks(shape,
             [&](int64_t row, int64_t rows) { kernel(row, rows, &sums[static_cast<size_t>(row / kRows) * channels]); });
  std::vector<double> totals(channels, 0.0);
  for (size_t i = 0; i < sums.size(); ++i) totals[i % channels] += sums[i];
  return totals;
}

double group_sum(const std::vector<double>& channels, const Shape& shape, int64_t group) {
  const auto first = channels.begin() + group * shape.width();
  return std::accumulate(first, first + shape.width(), 0.0);
}

// A value of each group for each of its channels.
std::vector<float> spread(const Shape& shape, const float* groups) {
  std::vector<float> channels(static_cast<size_t>(shape.channels));
  for (int64_t c = 0; c < shape.channels; ++c) channels[static_cast<size_t>(c)] = groups[c / shape.width()];
  return channels;
}

// Everything works on x minus its group's mean: a group far from zero loses nothing by cancellation then.
std::vector<double> centre_picture(const Shape& shape, const float* mean, float* x) {
  const auto means = spread(shape, mean);
  return channel_sums(shape, [&](int64_t row, int64_t rows, float* squares) {
    kernels::centre(x + row * shape.channels, means.data(), rows, shape.channels, squares);
  });
}

std::vector<float> scales(const Shape& shape, const float* weight, const float* rstd) {
  auto scale = spread(shape, rstd);
  for (size_t c = 0; c < scale.size(); ++c) scale[c] *= weight[c];
  return scale;
}

// Picture number `index` of x to y. A block is read again for each pass, which costs less than a copy of a large
// picture.
void forward_picture(const Shape& shape, const float* weight, const float* bias, double eps, const at::Tensor& x,
                     const at::Tensor& y, int64_t index, float* mean, float* rstd) {
  const auto count = static_cast<double>(shape.width() * shape.positions);
  const auto read_block = [&](int64_t row, int64_t rows) {
    auto block = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(rows * shape.channels));
    read_values(x, index * shape.values() + row * shape.channels, rows * shape.channels, block.get());
    return block;
  };
  const auto sums = channel_sums(shape, [&](int64_t row, int64_t rows, float* to) {
    kernels::add_sums(read_block(row, rows).get(), rows, shape.channels, to);
  });
  for (int64_t g = 0; g < shape.groups; ++g) mean[g] = static_cast<float>(group_sum(sums, shape, g) / count);
  const auto means = spread(shape, mean);
  const auto squares = channel_sums(shape, [&](int64_t row, int64_t rows, float* to) {
    const auto block = read_block(row, rows);
    kernels::centre(block.get(), means.data(), rows, shape.channels, to);
  });
  for (int64_t g = 0; g < shape.groups; ++g) {
    rstd[g] = static_cast<float>(1 / std::sqrt(group_sum(squares, shape, g) / count + eps));
  }
  const auto scale = scales(shape, weight, rstd);
  for_blocks(shape, [&](int64_t row, int64_t rows) {
    const auto block = read_block(row, rows);
    std::vector<float> unused(scale.size());
    kernels::centre(block.get(), means.data(), rows, shape.channels, unused.data());
    kernels::scale_silu(block.get(), scale.data(), bias, rows, shape.channels);
    write_values(block.get(), y, index * shape.values() + row * shape.channels, rows * shape.channels);
  });
}

// gradient: of the output, becomes that of x. The channels' sums are those of weight and bias for this picture.
void backward_picture(const Shape& shape, const float* weight, const float* bias, const float* mean, const float* rstd,
                      float* x, float* gradient, float* weight_gradient, float* bias_gradient) {
  const auto scale = scales(shape, weight, rstd);
  centre_picture(shape, mean, x);
  const auto blocks = static_cast<size_t>((shape.positions + kRows - 1) / kRows);
  std::vector<float> of_blocks(blocks * scale.size(), 0.0f);
  const auto sums = channel_sums(shape, [&](int64_t row, int64_t rows, float* to) {
    kernels::silu_gradient(gradient + row * shape.channels, x + row * shape.channels, scale.data(), bias, rows,
                           shape.channels, to, &of_blocks[static_cast<size_t>(row / kRows) * scale.size()]);
  });
  std::vector<double> products(scale.size(), 0.0);
  for (size_t i = 0; i < of_blocks.size(); ++i) products[i % products.size()] += of_blocks[i];

  std::vector<float> of_x(scale.size()), constant(scale.size());
  const auto count = static_cast<double>(shape.width() * shape.positions);
  for (int64_t g = 0; g < shape.groups; ++g) {
    double sum = 0, product = 0;  // over the group, weighted: of the gradient, and of gradient times normalised x
    for (int64_t i = g * shape.width(); i < (g + 1) * shape.width(); ++i) {
      const auto c = static_cast<size_t>(i);
      weight_gradient[c] = static_cast<float>(rstd[g] * products[c]);
      bias_gradient[c] = static_cast<float>(sums[c]);
      sum += weight[c] * sums[c];
      product += weight[c] * rstd[g] * products[c];
    }
    for (int64_t i = g * shape.width(); i < (g + 1) * shape.width(); ++i) {
      const auto c = static_cast<size_t>(i);
      of_x[c] = static_cast<float>(-static_cast<double>(rstd[g]) * rstd[g] * product / count);
      constant[c] = static_cast<float>(-rstd[g] * sum / count);
    }
  }
  kernels::combine(gradient, x, scale.data(), of_x.data(), constant.data(), shape.positions, shape.channels);
}

class NormSilu : public torch::autograd::Function<NormSilu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, int64_t groups, double eps) {
    const auto shape = shape_of(x, groups);
    auto y = at::empty_like(x, x.options(), kOrder);
    auto mean = at::empty({shape.batch, groups}, weight.options().requires_grad(false));
    auto rstd = at::empty_like(mean);
    const auto *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    auto *m = mean.mutable_data_ptr<float>(), *r = rstd.mutable_data_ptr<float>();
    at::parallel_for(0, shape.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        forward_picture(shape, w, b, eps, x, y, i, m + i * groups, r + i * groups);
      }
    });
    context->save_for_backward({x, weight, bias, mean, rstd});
    context->saved_data["groups"] = groups;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3], &rstd = saved[4];
    const auto shape = shape_of(x, context->saved_data["groups"].toInt());
    const auto from = outputs[0].to(x.scalar_type()).contiguous(kOrder);
    auto gradient = at::empty_like(x, x.options(), kOrder);
    auto weights = at::empty({shape.batch, shape.channels}, weight.options().requires_grad(false));
    auto biases = at::empty_like(weights);
    const auto *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    const auto *m = mean.const_data_ptr<float>(), *r = rstd.const_data_ptr<float>();
    auto *wg = weights.mutable_data_ptr<float>(), *bg = biases.mutable_data_ptr<float>();
    at::parallel_for(0, shape.batch, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> picture(static_cast<size_t>(shape.values())), work(picture.size());
      for (int64_t i = begin; i < end; ++i) {
        read_values(x, i * shape.values(), shape.values(), picture.data());
        read_values(from, i * shape.values(), shape.values(), work.data());
        backward_picture(shape, w, b, m + i * shape.groups, r + i * shape.groups, picture.data(), work.data(),
                         wg + i * shape.channels, bg + i * shape.channels);
        write_values(work.data(), gradient, i * shape.values(), shape.values());
      }
    });
    return {gradient, weights.sum(0), biases.sum(0), {}, {}};
  }
};

bool fits(const at::Tensor& x, const at::Tensor& weight) {
  const bool type = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return x.is_cpu() && x.dim() == 4 && type && weight.scalar_type() == at::kFloat && x.numel() > 0 &&
         x.is_contiguous(kOrder);
}

}  // namespace

at::Tensor norm_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups,
                     double eps) {
  if (!fits(x, weight)) return norm_silu_plain(x, weight, bias, groups, eps);
  return NormSilu::apply(x, weight, bias, groups, eps);
}

at::Tensor norm_silu_plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups,
                           double eps) {
  return at::silu(at::group_norm(x, groups, weight, bias, eps));
}

}  // namespace nextscale
