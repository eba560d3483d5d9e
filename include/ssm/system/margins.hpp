#pragma once

#include <limits>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/system/siso_response.hpp"

namespace ssm {

/// How much the gain of a loop may change: L(ω) is real and negative.
struct GainMargin {
  double factor = std::numeric_limits<double>::infinity();      ///< 1/|L|, by which L may grow, or,
                                                                ///< below 1, must not shrink
  double frequency = std::numeric_limits<double>::quiet_NaN();  ///< ω, rad/s
};

/// How much the phase of a loop may change: |L(ω)| = 1.
struct PhaseMargin {
  double degrees = std::numeric_limits<double>::infinity();     ///< 180° + arg L, in (−180, 180]
  double frequency = std::numeric_limits<double>::quiet_NaN();  ///< ω, rad/s
};

/// How much a loop may be delayed: |L(ω)| = 1.
struct DelayMargin {
  double seconds = std::numeric_limits<double>::infinity();     ///< the phase margin over ω, ≥ 0
  double frequency = std::numeric_limits<double>::quiet_NaN();  ///< ω, rad/s
};

/// The largest magnitude of a closed-loop response.
struct Peak {
  double value = 0;      ///< its magnitude, or infinity
  double frequency = 0;  ///< ω, rad/s; infinite when it is approached there
};

/// What `margins` finds.
struct Margins {
  GainMargin gain;                ///< of `gains` the factor nearest 1; infinite when there is none
  PhaseMargin phase;              ///< of `phases` the nearest 0°; infinite when there is none
  DelayMargin delay;              ///< the shortest of `delays`; infinite when there is none
  std::vector<GainMargin> gains;  ///< of every crossing of the negative real axis, by frequency
  std::vector<PhaseMargin> phases;  ///< of every crossing of the unit circle, by frequency
  std::vector<DelayMargin> delays;  ///< of the same crossings
  Peak sensitivity;                 ///< of S = 1/(1 + L)
  Peak complementary;               ///< of T = L/(1 + L)
  double modulus = 0;   ///< 1/‖S‖∞, the distance from L to −1 (the stability margin)
  bool stable = false;  ///< whether the closed loop is: margins of an unstable one say how far it
                        ///< is from being stable
};

/// How a loop runs around −1.
struct Nyquist {
  int clockwise_encirclements = 0;  ///< of −1 by L as ω runs from −∞ to ∞, poles on the axis (the
                                    ///< unit circle) passed on the unstable side
  int open_loop_unstable = 0;    ///< poles of L beyond the axis or circle, P
  int closed_loop_unstable = 0;  ///< of 1/(1 + L): Z = P + clockwise encirclements
};

}  // namespace ssm

SSM_BEGIN_COMPILED

[[nodiscard]] Margins margins_of(const SisoResponse& loop);
[[nodiscard]] Nyquist encirclements_of(const SisoResponse& loop);

SSM_END_COMPILED

namespace ssm {

/// The margins of a loop L that is closed by negative feedback, 1/(1 + L): of gain, phase and delay
/// at every crossing, and the peaks of S and T.
///
/// Crossings are bracketed on frequencies that follow the roots of L and of 1 + L and lie closer
/// about lightly damped ones, where magnitude and phase go smoothly from one to the next, and then
/// bisected to the last digit. Those at ω = 0, π/Δ and infinity count as well, and where a pole on
/// the axis or circle turns L through −180°, with the factor 0. With a delay the
/// phase crosses without end: crossings are given for twenty turns of the delay, and on until |L|
/// is below a thousandth.
///
/// @param loop L: a system, a transfer function, or zeros, poles and gain; delayed(…) for a delay
/// @return degrees, s and rad/s
/// @throws DomainError when L is 0, or has a delay and does not fall below 1, or one of more than
/// 10⁶
///   radians where it does
/// Cost: some thousand evaluations of L, of zeros + poles operations each.
[[nodiscard]] inline Margins margins(const SisoResponse& loop) { return detail::margins_of(loop); }

/// The encirclements of −1 by L, and what they say of the closed loop 1/(1 + L) (Nyquist 1932):
/// from the closed poles themselves, or with a delay counted from the crossings of the negative
/// real axis beyond −1.
/// @param loop L, as for margins
/// @throws DomainError as margins does, and when L runs through −1: the closed loop has a pole on
///   the axis
/// Cost: that of margins.
[[nodiscard]] inline Nyquist nyquist(const SisoResponse& loop) {
  return detail::encirclements_of(loop);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/margins_impl.hpp"
#endif
