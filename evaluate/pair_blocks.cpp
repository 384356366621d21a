#include "nextscale/evaluate/pair_blocks.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include <ATen/ATen.h>

#include "nextscale/base/vectorised.h"

namespace nextscale {
namespace {

constexpr int64_t kPairRowsAtATime = 2048;
constexpr size_t kLanes = 16;  // sums side by side: wide enough for two vectors of eight

NEXTSCALE_VECTORISED double squared_difference_of(const float* a, const float* b, int64_t width) {
  std::array<double, kLanes> sums{};
  const int64_t whole = width - width % static_cast<int64_t>(kLanes);
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double difference = static_cast<double>(a[i + lane]) - static_cast<double>(b[i + lane]);
      sums[lane] += difference * difference;
    }
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  for (int64_t i = whole; i < width; ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

double squared_difference_of(const double* a, const double* b, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

template <typename Value>
double squared_difference_in(const PairRows& a, int64_t i, const PairRows& b, int64_t j) {
  const int64_t width = a.width();
  return squared_difference_of(a.host().const_data_ptr<Value>() + i * width,
                               b.host().const_data_ptr<Value>() + j * width, width);
}

void visit_row_of_blocks(const PairRows& a, const PairRows& b, int64_t size, int64_t i, int64_t first,
                         const std::function<void(const PairBlock&)>& visit) {
  const int64_t i_end = std::min(i + size, a.count());
  const auto from = a.block(i, i_end);  // (≤ size, D)
  for (int64_t j = first; j < b.count(); j += size) {
    const int64_t j_end = std::min(j + size, b.count());
    const auto products = from.mm(b.block(j, j_end).to(from.device()).t()).cpu().contiguous();  // (≤ size, ≤ size)
    visit({i, i_end, j, j_end, products.const_data_ptr<double>()});
  }
}

}  // namespace

PairRows::PairRows(const at::Tensor& rows, const at::Tensor& centre)
    : rows_(rows.scalar_type() == at::kDouble ? rows.detach() : rows.detach().to(at::kFloat)),
      host_(rows_.cpu().contiguous()),
      centre_(centre.to(rows_.device())),
      squares_(at::empty({rows.size(0)}, at::kDouble)) {
  for (int64_t begin = 0; begin < count(); begin += kPairRowsAtATime) {
    const int64_t end = std::min(begin + kPairRowsAtATime, count());
    squares_.slice(0, begin, end).copy_(block(begin, end).square_().sum(1));
  }
}

at::Tensor PairRows::block(int64_t begin, int64_t end) const {
  return rows_.slice(0, begin, end).to(at::kDouble) - centre_;
}

double pair_rounding(int64_t width) {
  // Of the products and norms (D + 4)·eps by the usual bound on sums, in any order and with or without FMA; the
  // coordinates about the centre and squared_difference's own sum are within the margin.
  return 4 * static_cast<double>(width + 16) * std::numeric_limits<double>::epsilon();
}

double squared_difference(const PairRows& a, int64_t i, const PairRows& b, int64_t j) {
  if (a.host().scalar_type() == at::kDouble) return squared_difference_in<double>(a, i, b, j);
  return squared_difference_in<float>(a, i, b, j);
}

void for_each_block(const PairRows& a, const PairRows& b, int64_t size,
                    const std::function<void(const PairBlock&)>& visit) {
  for (int64_t i = 0; i < a.count(); i += size) visit_row_of_blocks(a, b, size, i, 0, visit);
}

void for_each_block_within(const PairRows& rows, int64_t size, const std::function<void(const PairBlock&)>& visit) {
  for (int64_t i = 0; i < rows.count(); i += size) visit_row_of_blocks(rows, rows, size, i, i, visit);
}

}  // namespace nextscale
