#pragma once

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The dimension of the subspace that inputs B reach, by the staircase: split off what B reaches,
/// then what that reaches in one step, until nothing new is.
[[nodiscard]] Index reachable_dimension(RealMatrix A, RealMatrix B);

SSM_END_COMPILED

namespace ssm {

/// How many dimensions of the state space the inputs of x' = A x + B u can steer; all when (A, B)
/// is controllable.
///
/// The staircase form (Van Dooren 1981) with ranks by singular values, of the balanced A and unit
/// columns of B, rounding being 10 n epsilon: unlike the rank of [B AB A²B …] it neither loses
/// small modes nor takes rounding for reach. Computed in double for float as well.
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @throws ShapeError
/// @throws DomainError when A or B is not finite
/// Cost: at most states singular value decompositions; about 20 states³ each, mostly far smaller.
template <class DA, class DB>
[[nodiscard]] Index controllable_states(const Eigen::MatrixBase<DA>& A,
                                        const Eigen::MatrixBase<DB>& B) {
  detail::check_matrix("controllable_states", "A", A, A.rows(), A.rows());
  detail::check_matrix("controllable_states", "B", B, A.rows(), B.cols());
  if (!A.allFinite() || !B.allFinite())
    detail::throw_domain("controllable_states", "A or B", "not finite", "finite");
  return detail::reachable_dimension(detail::RealMatrix(A), detail::RealMatrix(B));
}

/// How many dimensions of the state space show in the outputs y = C x of x' = A x; all when (A, C)
/// is observable. It is controllable_states(Aᵀ, Cᵀ).
///
/// @param A (states, states)
/// @param C (outputs, states)
/// @throws ShapeError, DomainError as controllable_states does
template <class DA, class DC>
[[nodiscard]] Index observable_states(const Eigen::MatrixBase<DA>& A,
                                      const Eigen::MatrixBase<DC>& C) {
  detail::check_matrix("observable_states", "A", A, A.rows(), A.rows());
  detail::check_matrix("observable_states", "C", C, C.rows(), A.rows());
  return controllable_states(A.transpose(), C.transpose());
}

/// True when the inputs can bring the state anywhere.
template <LinearSystem System>
[[nodiscard]] bool is_controllable(const System& system) {
  return controllable_states(detail::state_matrix(system), detail::input_matrix(system)) ==
         system.states();
}

/// True when the outputs tell the whole state.
template <LinearSystem System>
[[nodiscard]] bool is_observable(const System& system) {
  return observable_states(detail::state_matrix(system), system.C()) == system.states();
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/controllability_impl.hpp"
#endif
