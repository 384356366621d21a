#include "nextscale/evaluate/feature_rows.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr int64_t kRowsAtATime = 4096;

bool all_finite(const at::Tensor& rows) {
  for (const auto& some : rows.split(kRowsAtATime)) {
    if (!some.isfinite().all().item<bool>()) return false;
  }
  return true;
}

}  // namespace

void require_rows(const at::Tensor& rows, const std::string& where, int64_t least) {
  if (!rows.defined() || rows.dim() != 2 || rows.size(1) == 0) {
    throw failure({where, "no feature rows", "(n, D)", rows.defined() ? shape_text(rows.sizes()) : "nothing"});
  }
  if (rows.size(0) < least) {
    throw failure({where, "too few rows", "at least " + std::to_string(least), std::to_string(rows.size(0))});
  }
  if (!rows.is_floating_point()) {
    throw failure({where, "type of the rows", "a floating type", std::string(at::toString(rows.scalar_type()))});
  }
  if (!all_finite(rows)) throw failure({.where = where, .what = "values that are not finite"});
}

void require_same_width(const at::Tensor& first, const at::Tensor& second, const std::string& where) {
  if (first.size(1) == second.size(1)) return;
  throw failure(
      {where, "widths of the features differ", std::to_string(first.size(1)), std::to_string(second.size(1))});
}

at::Tensor wide_rows(const at::Tensor& rows, int64_t begin, int64_t end) {
  return rows.detach().slice(0, begin, end).to(at::kCPU, at::kDouble).contiguous();
}

at::Tensor wide_mean(const at::Tensor& rows) {
  auto sum = at::zeros({rows.size(1)}, at::kDouble);
  for (int64_t begin = 0; begin < rows.size(0); begin += kRowsAtATime) {
    sum += wide_rows(rows, begin, std::min(begin + kRowsAtATime, rows.size(0))).sum(0);
  }
  return sum / static_cast<double>(rows.size(0));
}

}  // namespace nextscale
