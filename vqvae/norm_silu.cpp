#include "nextscale/vqvae/norm_silu.h"

#include <algorithm>
#include <cmath>
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

// Pictures of a channels-last tensor as float32 and back.
void read_picture(const at::Tensor& x, int64_t index, int64_t values, float* to) {
  if (x.scalar_type() == at::kFloat) {
    const float* from = x.const_data_ptr<float>() + index * values;
    std::copy(from, from + values, to);
  } else {
    const auto* from = static_cast<const uint16_t*>(x.const_data_ptr()) + index * values;
    kernels::bfloat16_to_float(from, to, values);
  }
}
void write_picture(const float* from, const at::Tensor& x, int64_t index, int64_t values) {
  if (x.scalar_type() == at::kFloat) {
    std::copy(from, from + values, x.mutable_data_ptr<float>() + index * values);
  } else {
    kernels::float_to_bfloat16(from, static_cast<uint16_t*>(x.mutable_data_ptr()) + index * values, values);
  }
}

// Channels' sums over all positions, by blocks, so that float32 sums stay short: kernel(first row, rows, sums).
template <class Kernel>
std::vector<double> channel_sums(const Shape& shape, const Kernel& kernel) {
  constexpr int64_t kRows = 256;
  std::vector<double> totals(static_cast<size_t>(shape.channels), 0.0);
  std::vector<float> sums(totals.size());
  for (int64_t row = 0; row < shape.positions; row += kRows) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    kernel(row, std::min(kRows, shape.positions - row), sums.data());
    for (size_t c = 0; c < sums.size(); ++c) totals[c] += sums[c];
  }
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

void forward_picture(const Shape& shape, const float* weight, const float* bias, double eps, float* x, float* mean,
                     float* rstd) {
  const auto count = static_cast<double>(shape.width() * shape.positions);
  const auto sums = channel_sums(shape, [&](int64_t row, int64_t rows, float* to) {
    kernels::add_sums(x + row * shape.channels, rows, shape.channels, to);
  });
  for (int64_t g = 0; g < shape.groups; ++g) mean[g] = static_cast<float>(group_sum(sums, shape, g) / count);
  const auto squares = centre_picture(shape, mean, x);
  for (int64_t g = 0; g < shape.groups; ++g) {
    rstd[g] = static_cast<float>(1 / std::sqrt(group_sum(squares, shape, g) / count + eps));
  }
  kernels::scale_silu(x, scales(shape, weight, rstd).data(), bias, shape.positions, shape.channels);
}

// gradient: of the output, becomes that of x. The channels' sums are those of weight and bias for this picture.
void backward_picture(const Shape& shape, const float* weight, const float* bias, const float* mean, const float* rstd,
                      float* x, float* gradient, float* weight_gradient, float* bias_gradient) {
  const auto scale = scales(shape, weight, rstd);
  centre_picture(shape, mean, x);
  std::vector<float> block(scale.size());
  std::vector<double> products(scale.size(), 0.0);
  const auto sums = channel_sums(shape, [&](int64_t row, int64_t rows, float* to) {
    std::fill(block.begin(), block.end(), 0.0f);
    kernels::silu_gradient(gradient + row * shape.channels, x + row * shape.channels, scale.data(), bias, rows,
                           shape.channels, to, block.data());
    for (size_t c = 0; c < block.size(); ++c) products[c] += block[c];
  });

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
      std::vector<float> picture(static_cast<size_t>(shape.values()));
      for (int64_t i = begin; i < end; ++i) {
        read_picture(x, i, shape.values(), picture.data());
        forward_picture(shape, w, b, eps, picture.data(), m + i * groups, r + i * groups);
        write_picture(picture.data(), y, i, shape.values());
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
        read_picture(x, i, shape.values(), picture.data());
        read_picture(from, i, shape.values(), work.data());
        backward_picture(shape, w, b, m + i * shape.groups, r + i * shape.groups, picture.data(), work.data(),
                         wg + i * shape.channels, bg + i * shape.channels);
        write_picture(work.data(), gradient, i, shape.values());
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
