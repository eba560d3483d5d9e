#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The matrices of C (λI − A)⁻¹ B + D in double. A discrete system read after its step answers
/// z C (zI − A_bar)⁻¹ B_bar + D, which is C A_bar (zI − A_bar)⁻¹ B_bar + C B_bar + D.
struct Quadruple {
  RealMatrix A, B, C, D;

  Quadruple() = default;
  Quadruple(RealMatrix a, RealMatrix b, RealMatrix c, RealMatrix d)
      : A(std::move(a)), B(std::move(b)), C(std::move(c)), D(std::move(d)) {}
  template <LinearSystem System>
  explicit Quadruple(const System& system, Readout readout = Readout::before)
      : A(state_matrix(system)), B(input_matrix(system)), C(system.C()), D(system.D()) {
    if (is_discrete<System> && readout == Readout::after) {
      D += C * B;
      C = C * A;
    }
  }
  /// Of inputs and outputs or of one of them: those that are not given have size 0.
  [[nodiscard]] static Quadruple of(RealMatrix A, RealMatrix B) {
    const Index n = A.rows(), m = B.cols();
    return {std::move(A), std::move(B), RealMatrix(0, n), RealMatrix(0, m)};
  }

  [[nodiscard]] bool all_finite() const {
    return A.all_finite() && B.all_finite() && C.all_finite() && D.all_finite();
  }
};

/// The system of one that answers from y to u with all matrices transposed.
[[nodiscard]] Quadruple dual_of(const Quadruple& system);

/// What a system is measured in: x = diag(states) x̂, u = diag(inputs) û, y = diag(outputs) ŷ, all
/// powers of two.
struct Units {
  RealVector states, inputs, outputs;
};

/// The exponent of the largest element on the diagonal of A or, as a mean, around a loop of two
/// states: no unit of the states moves it. Nothing where there is none.
[[nodiscard]] std::optional<int> fastest_rate(const RealMatrix& A);

/// Brings a system to units of its own, Â = S⁻¹ A S, B̂ = S⁻¹ B diag(inputs) and so on, in which
/// what enters and what leaves each state is as even as powers of two allow, columns of [B; D] and
/// rows of [C D] being as large as A. Exact.
///
/// They do not depend on the units that the system came in: the search runs over exponents, from a
/// start that no unit moves, a spanning tree of elements made 1. So whatever is decided on the
/// result is the same, to the bit, for a system whose states, inputs and outputs were multiplied by
/// powers of two. Parlett & Reinsch (1969) with B and C among what is balanced.
[[nodiscard]] Units to_own_units(Quadruple& system);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/units_impl.hpp"
#endif
