#pragma once

#include <cstdint>

namespace nextscale::kernels {

// Loops over one picture as rows (positions) of columns (channels), compiled for the vector widths of several
// processors; the widest is chosen when the program starts.

void bfloat16_to_float(const uint16_t* from, float* to, int64_t count);
void float_to_bfloat16(const float* from, uint16_t* to, int64_t count);  ///< rounds to nearest even

/// sums[c] += x
void add_sums(const float* x, int64_t rows, int64_t columns, float* sums);
/// x -= mean[c]; squares[c] += x^2
void centre(float* x, const float* mean, int64_t rows, int64_t columns, float* squares);
/// x = silu(x * scale[c] + shift[c])
void scale_silu(float* x, const float* scale, const float* shift, int64_t rows, int64_t columns);
/// gradient *= silu'(x * scale[c] + shift[c]); sums[c] += gradient, products[c] += gradient * x
void silu_gradient(float* gradient, const float* x, const float* scale, const float* shift, int64_t rows,
                   int64_t columns, float* sums, float* products);
/// gradient = gradient * a[c] + x * b[c] + c[c]
void combine(float* gradient, const float* x, const float* a, const float* b, const float* c, int64_t rows,
             int64_t columns);

}  // namespace nextscale::kernels
