#include "nextscale/var/bfloat16_operators.h"

#include <algorithm>
#include <memory>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "nextscale/var/bfloat16_kernels.h"

namespace nextscale {
namespace {

constexpr int64_t kGrain = 1 << 14;  // values worth a thread

bool has_kernel(const torch::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kBFloat16 && x.is_contiguous() && x.numel() > 0;
}

const uint16_t* bits(const torch::Tensor& x) { return static_cast<const uint16_t*>(x.const_data_ptr()); }
uint16_t* mutable_bits(const torch::Tensor& x) { return static_cast<uint16_t*>(x.mutable_data_ptr()); }

}  // namespace

torch::Tensor gelu_tanh(const torch::Tensor& x) {
  if (!has_kernel(x)) return at::gelu(x, "tanh");
  auto y = at::empty(x.sizes(), x.options().requires_grad(false));
  const auto* from = bits(x);
  auto* to = mutable_bits(y);
  at::parallel_for(0, x.numel(), kGrain,
                   [&](int64_t begin, int64_t end) { kernels::gelu_tanh(from + begin, to + begin, end - begin); });
  return y;
}

GeluGradient gelu_tanh_gradient(const torch::Tensor& x, torch::Tensor of_activated) {
  if (!has_kernel(x) || !has_kernel(of_activated)) {
    return {at::gelu(x, "tanh"), at::gelu_backward(of_activated, x, "tanh")};
  }
  auto activated = at::empty(x.sizes(), x.options().requires_grad(false));
  const auto* from = bits(x);
  auto *y = mutable_bits(activated), *gradient = mutable_bits(of_activated);
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::gelu_tanh_gradient(from + begin, y + begin, gradient + begin, end - begin);
  });
  return {activated, of_activated};
}

torch::Tensor scaled_softmax(torch::Tensor x, double scale, const torch::Tensor& mask) {
  if (mask.defined() || !has_kernel(x)) {
    if (scale != 1) x.mul_(scale);
    if (mask.defined()) x.add_(mask);
    return at::softmax(x, -1);
  }
  const int64_t columns = x.size(-1), rows = x.numel() / columns;
  auto* values = mutable_bits(x);
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / columns), [&](int64_t begin, int64_t end) {
    const auto work = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(columns));
    kernels::softmax_rows(values + begin * columns, end - begin, columns, static_cast<float>(scale), work.get());
  });
  return x;
}

}  // namespace nextscale
