#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// What every metric asks of its rows, and how it reads them: in float64, a block at a time, so that no set stands in
/// memory twice.

/// @param where names the set in errors
/// @throws Error failure unless rows are (n, D) with n >= least, D >= 1, of a floating type, all values finite
void require_rows(const at::Tensor& rows, const std::string& where, int64_t least = 1);

/// @throws Error failure naming `where` unless both (n, D) have the same D
void require_same_width(const at::Tensor& first, const at::Tensor& second, const std::string& where);

/// Rows begin … end (not included) of (n, D) as (end - begin, D) float64 on the CPU.
at::Tensor wide_rows(const at::Tensor& rows, int64_t begin, int64_t end);

/// (D) float64 on the CPU, the mean of (n, D).
at::Tensor wide_mean(const at::Tensor& rows);

}  // namespace nextscale
