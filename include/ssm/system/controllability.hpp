#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The dimension of the subspace that inputs B reach.
/// @throws DomainError when A or B is not finite, or tolerance is not in [0, 1)
[[nodiscard]] Index reachable_dimension(std::string_view function, RealMatrix A, RealMatrix B,
                                        double tolerance);

SSM_END_COMPILED

namespace ssm {

/// How many dimensions of the state space the inputs of x' = A x + B u can steer; all when (A, B)
/// is controllable.
///
/// A direction counts as out of reach when some change of A and B, element by element no more than
/// their error, puts it there; so no units of states or inputs change the count. Left eigenvectors,
/// the staircase form (Van Dooren 1981) and the test of Popov, Belevitch and Hautus decide: unlike
/// the rank of [B AB A²B …] they neither lose small modes nor take rounding for reach. Computed in
/// double for float as well.
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param tolerance the relative error that the elements of A and B have; rounding when 0
/// @throws ShapeError
/// @throws DomainError when A or B is not finite, or tolerance is not in [0, 1)
/// Cost: about 60 states³ where everything is reached, else up to 100 states³ for each state that
/// is not.
template <class DA, class DB>
[[nodiscard]] Index controllable_states(const Eigen::MatrixBase<DA>& A,
                                        const Eigen::MatrixBase<DB>& B, double tolerance = 0) {
  detail::check_matrix("controllable_states", "A", A, A.rows(), A.rows());
  detail::check_matrix("controllable_states", "B", B, A.rows(), B.cols());
  return detail::reachable_dimension("controllable_states", detail::RealMatrix(A),
                                     detail::RealMatrix(B), tolerance);
}

/// How many dimensions of the state space show in the outputs y = C x of x' = A x; all when (A, C)
/// is observable. It is controllable_states(Aᵀ, Cᵀ).
///
/// @param A (states, states)
/// @param C (outputs, states)
/// @param tolerance the relative error that the elements of A and C have; rounding when 0
/// @throws ShapeError, DomainError as controllable_states does
template <class DA, class DC>
[[nodiscard]] Index observable_states(const Eigen::MatrixBase<DA>& A,
                                      const Eigen::MatrixBase<DC>& C, double tolerance = 0) {
  detail::check_matrix("observable_states", "A", A, A.rows(), A.rows());
  detail::check_matrix("observable_states", "C", C, C.rows(), A.rows());
  return detail::reachable_dimension("observable_states", detail::RealMatrix(A).transpose(),
                                     detail::RealMatrix(C).transpose(), tolerance);
}

/// True when the inputs can bring the state anywhere.
/// @param tolerance as of controllable_states
template <LinearSystem System>
[[nodiscard]] bool is_controllable(const System& system, double tolerance = 0) {
  return controllable_states(detail::state_matrix(system), detail::input_matrix(system),
                             tolerance) == system.states();
}

/// True when the outputs tell the whole state.
/// @param tolerance as of observable_states
template <LinearSystem System>
[[nodiscard]] bool is_observable(const System& system, double tolerance = 0) {
  return observable_states(detail::state_matrix(system), system.C(), tolerance) == system.states();
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/controllability_impl.hpp"
#endif
