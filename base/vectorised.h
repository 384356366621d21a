#pragma once

/// Before a function of plain loops: it is compiled for the vector widths of several processors, and the widest that
/// the processor has is chosen when the program starts (GCC's function multiversioning; elsewhere the compiler's
/// choice). Jump threading is off in it: GCC's would follow the limits of a clamped value through all that comes after,
/// and a loop of GELUs takes three times as long.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define NEXTSCALE_VECTORISED                                      \
  __attribute__((optimize("O3,no-trapping-math,no-thread-jumps"), \
                 target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define NEXTSCALE_VECTORISED
#endif
