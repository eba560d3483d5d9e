#pragma once

#include <Eigen/Core>
#include <Eigen/SVD>
#include <algorithm>
#include <limits>
#include <string_view>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// The dimension of the subspace that inputs B reach, by the staircase: split off what B reaches,
/// then what that reaches in one step, until nothing new is.
template <class Matrix>
Index reachable_dimension(Matrix A, Matrix B) {
  const Eigen::VectorXd scale = balance(A);
  B = scale.cwiseInverse().asDiagonal() * B;
  for (Index j = 0; j < B.cols(); ++j) {
    const double size = B.col(j).norm();
    if (size > 0) B.col(j) /= size;
  }
  const double rounding =
      10 * static_cast<double>(A.rows()) * std::numeric_limits<double>::epsilon();
  double tolerance = rounding;
  const double tolerance_of_A = rounding * A.norm();
  Index reached = 0;
  while (A.rows() > 0 && B.cols() > 0) {
    const Eigen::JacobiSVD<Matrix> svd(B, Eigen::ComputeFullU);
    const Index rank = (svd.singularValues().array() > tolerance).count();
    if (rank == 0) break;
    reached += rank;
    const Index left = A.rows() - rank;
    const Matrix turned = svd.matrixU().transpose() * A * svd.matrixU();
    B = turned.bottomLeftCorner(left, rank);
    A = turned.bottomRightCorner(left, left);
    tolerance = tolerance_of_A;
  }
  return reached;
}

}  // namespace detail

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
  return detail::reachable_dimension<Eigen::MatrixXd>(A.template cast<double>(),
                                                      B.template cast<double>());
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
