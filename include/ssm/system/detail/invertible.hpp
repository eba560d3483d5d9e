#pragma once

#include <cmath>
#include <optional>
#include <utility>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/detail/units.hpp"

SSM_BEGIN_COMPILED

/// A⁻¹ B, or nothing where errors of a rounding of `sizes`, element by element, could make A
/// singular: unless ρ(|A⁻¹| sizes) < 1/(2 n ε), which multiplying rows or columns does not change.
/// `sizes` are |A| where its elements are data, more where they are sums.
[[nodiscard]] std::optional<RealMatrix> solve_invertible(RealMatrix A, RealMatrix B,
                                                         RealMatrix sizes);

/// |M|, element by element.
[[nodiscard]] RealMatrix moduli_of(RealMatrix M);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/invertible_impl.hpp"
#endif
