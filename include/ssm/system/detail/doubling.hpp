#pragma once

#include "ssm/core/detail/padded.hpp"
#include "ssm/system/detail/riccati_equation.hpp"

// The short way to the solutions of Lyapunov and Riccati equations that are well conditioned: by
// doubling in double, then a correction from a residual in twice the precision of double. Each
// function here is false, whatever it has written, where its result may be off by more than
// rounding or where there may be something to refuse; the long way tells then.

SSM_BEGIN_COMPILED

/// The numbers that lyapunov_by_doubling takes of a workspace, its arguments among them.
constexpr Index lyapunov_room(Index n) { return 20 * padded(n, n); }

/// The X of A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0 for a stable A. Destroys A and Q.
[[nodiscard]] bool lyapunov_by_doubling(Time time, const Padded& A, const Padded& Q,
                                        const Padded& X, Workspace work);

/// A Riccati equation and its solution, P (states, states) and K (inputs, states).
struct PaddedRiccati {
  Time time;
  Padded A, B, Q, R, N;  ///< N (0, 0) for none
  Padded P, K;
};

/// The numbers that riccati_by_doubling takes of a workspace, its arguments among them.
constexpr Index riccati_room(Index n, Index m) {
  return 18 * padded(n, n) + 12 * padded(n, m) + 2 * padded(m, n) + 4 * padded(m, m);
}

/// The stabilizing solution of an equation and its gain. Destroys the data.
[[nodiscard]] bool riccati_by_doubling(const RiccatiCaller& caller, const PaddedRiccati& equation,
                                       Workspace work);

/// The numbers that gain_of_filter takes of a workspace beside its arguments.
constexpr Index filter_gain_room(Index n, Index m) {
  return 6 * padded(n, m) + 6 * padded(m, m) + padded(m, n);
}

/// K = P Cᵀ S⁻¹ with S = C P Cᵀ + R, rounded from twice the precision of double.
[[nodiscard]] bool gain_of_filter(const Padded& P, const Padded& C, const Padded& R,
                                  const Padded& K, Workspace work);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/doubling_impl.hpp"
#endif
