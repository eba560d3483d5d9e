#pragma once

#include <cstdint>

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "ssm: compile without -ffast-math, -Ofast and -ffinite-math-only, under which checks for \
NaN and compensated sums would be wrong in silence; -O3 -fno-math-errno -fno-trapping-math is safe."
#endif

namespace ssm {

/// Signed 64-bit type of every extent, stride and offset.
using Index = std::int64_t;

}  // namespace ssm
