#pragma once

#include <complex>
#include <concepts>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/system/transfer_function.hpp"

namespace ssm {

/// A point at which branches of a root locus meet.
struct BreakPoint {
  std::complex<double> point;  ///< a pole of multiplicity 2 or more of the closed loop
  double gain;                 ///< k there, > 0
};

/// The poles of a loop that is closed with each of many gains.
struct RootLocus {
  std::vector<double> gain;  ///< k, increasing, ≥ 0
  /// branch[b][i] is where branch b is at gain[i]: it begins at a pole of L and goes on without
  /// exchange with another; infinite where the pole has left the plane.
  std::vector<std::vector<std::complex<double>>> branch;
  std::vector<BreakPoint> break_points;  ///< by gain
};

}  // namespace ssm

SSM_BEGIN_COMPILED

[[nodiscard]] RootLocus locus_of(RealVector above, RealVector below, std::vector<double> gain);

SSM_END_COMPILED

namespace ssm {

/// The root locus of 1 + k L = 0 (Evans 1948): the roots of d + k n for a grid of gains, matched
/// between neighbours by their distance, on as many gains between as that takes, so that branches
/// do not jump; and where branches meet, the roots of n′ d − n d′ with k > 0 polished by Newton's
/// method.
///
/// @param loop L = n/d in s or z, proper; for negative gains give −L
/// @param gain the gains, increasing, ≥ 0; when there are none, 0, the gains of break points, and
///   500 even in the logarithm, from where no branch has moved to where all are near their ends
/// @throws ShapeError when L is improper
/// @throws DomainError when L is 0, a coefficient is not finite, or gains are negative, not finite
///   or do not increase
/// Cost: 10 poles³ a gain.
template <std::floating_point T>
[[nodiscard]] RootLocus root_locus(const TransferFunction<T>& loop, std::vector<double> gain = {}) {
  const auto fraction = detail::proper_fraction_of("root_locus", loop);
  return detail::locus_of(fraction.above, fraction.below, std::move(gain));
}

/// The same of one channel of a system, by way of its transfer function.
/// @param loop continuous or discrete, read before the step
/// @param gain the gains, as of a transfer function
/// @param output, input which channel
/// @throws ShapeError, DomainError as the other, and as zeros_poles_gain does
template <LinearSystem System>
[[nodiscard]] RootLocus root_locus(const System& loop, std::vector<double> gain = {},
                                   Index output = 0, Index input = 0) {
  return root_locus(transfer_function(detail::roots_of_channel("root_locus", loop, output, input,
                                                               Readout::before)),
                    std::move(gain));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/root_locus_impl.hpp"
#endif
