#pragma once

#include <cstdint>

namespace nextscale::kernels {

// Loops over bfloat16 values (their bits) that compute in float32 and round once, compiled for the vector widths of
// several processors; the widest is chosen when the program starts.

/// y = gelu_tanh(x)
void gelu_tanh(const uint16_t* x, uint16_t* y, int64_t count);
/// activated = gelu_tanh(x), gradient *= gelu_tanh'(x)
void gelu_tanh_gradient(const uint16_t* x, uint16_t* activated, uint16_t* gradient, int64_t count);
/// Rows of `columns` values, each x = exp(scale x - max) / sum. @param work room for a row
void softmax_rows(uint16_t* x, int64_t rows, int64_t columns, float scale, float* work);

}  // namespace nextscale::kernels
