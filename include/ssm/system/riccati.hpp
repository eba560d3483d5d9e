#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/padded.hpp"
#include "ssm/system/detail/doubling.hpp"
#include "ssm/system/detail/riccati_equation.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// Throws unless the data of an equation are finite and its costs symmetric, which they are exactly
/// then; an N that is not given becomes 0.
void check_data(const RiccatiCaller& caller, RiccatiEquation& equation);

/// The stabilizing solution, with the errors of riccati but for those of shape.
[[nodiscard]] RiccatiSolution solve_riccati(const RiccatiCaller& caller, RiccatiEquation equation);

/// P Cᵀ S⁻¹ with S = C P Cᵀ + R, rounded from twice the precision of double.
[[nodiscard]] RealMatrix gain_of_filter(const RealMatrix& P, const RealMatrix& C,
                                        const RealMatrix& R);

SSM_END_COMPILED

namespace ssm {
namespace detail {

/// The cross term that is not given.
struct NoCrossTerm {};

/// A solution in matrices of N states and M inputs.
template <int N, int M>
struct SizedRiccati {
  Eigen::Matrix<double, N, N> P;
  Eigen::Matrix<double, M, N> K;
};

template <class Cross>
RealMatrix cross_term(const Cross& N) {
  if constexpr (std::is_same_v<Cross, NoCrossTerm>)
    return {};
  else
    return RealMatrix(N);
}

/// The solution for matrices of the right sizes, the short way or the long one.
template <int States, int Inputs, class DA, class DB, class DQ, class DR, class Cross>
SizedRiccati<States, Inputs> sized_riccati(const RiccatiCaller& caller, Time time,
                                           const Eigen::MatrixBase<DA>& A,
                                           const Eigen::MatrixBase<DB>& B,
                                           const Eigen::MatrixBase<DQ>& Q,
                                           const Eigen::MatrixBase<DR>& R, const Cross& N) {
  using P = Eigen::Matrix<double, States, States>;
  using K = Eigen::Matrix<double, Inputs, States>;
  constexpr bool fixed = States > 0 && Inputs > 0;
  const Index n = A.rows(), m = B.cols();
  WorkspaceMemory<fixed ? riccati_room(States, Inputs) : 0> memory(riccati_room(n, m));
  Workspace work = memory.workspace();
  PaddedRiccati equation{time, work.matrix(A),    work.matrix(B),   work.matrix(Q), work.matrix(R),
                         {},   work.matrix(n, n), work.matrix(m, n)};
  if constexpr (!std::is_same_v<Cross, NoCrossTerm>) equation.N = work.matrix(N);
  if (riccati_by_doubling(caller, equation, work))
    return {to_eigen<P>(equation.P), to_eigen<K>(equation.K)};
  const RiccatiSolution solution = solve_riccati(
      caller, {time, RealMatrix(A), RealMatrix(B), RealMatrix(Q), RealMatrix(R), cross_term(N)});
  return {to_eigen<P>(solution.P), to_eigen<K>(solution.K)};
}

template <class DA, class DB, class DQ, class DR, class Cross = NoCrossTerm>
auto checked_riccati(const RiccatiCaller& caller, Time time, const Eigen::MatrixBase<DA>& A,
                     const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DQ>& Q,
                     const Eigen::MatrixBase<DR>& R, const Cross& N = {}) {
  check_matrix(caller.function, "A", A, A.rows(), A.rows());
  check_matrix(caller.function, "B", B, A.rows(), B.cols());
  check_matrix(caller.function, "Q", Q, A.rows(), A.rows());
  check_matrix(caller.function, "R", R, B.cols(), B.cols());
  if constexpr (!std::is_same_v<Cross, NoCrossTerm>)
    check_matrix(caller.function, "N", N, A.rows(), B.cols());
  return sized_riccati<DA::RowsAtCompileTime, DB::ColsAtCompileTime>(caller, time, A, B, Q, R, N);
}

/// The P of the solution, in the type of the A that it belongs to.
template <class DA, class... Arguments>
auto cost_to_go(const RiccatiCaller& caller, Time time, const Eigen::MatrixBase<DA>& A,
                const Arguments&... arguments) {
  auto solution = checked_riccati(caller, time, A, arguments...);
  if constexpr (std::is_same_v<typename DA::Scalar, double>) {
    return std::move(solution.P);
  } else {
    constexpr int size = DA::RowsAtCompileTime;
    using P = Eigen::Matrix<typename DA::Scalar, size, size>;
    return P(solution.P.template cast<typename DA::Scalar>());
  }
}

}  // namespace detail

/// The stabilizing solution P of the continuous algebraic Riccati equation
///
///   Aᵀ P + P A − (P B + N) R⁻¹ (P B + N)ᵀ + Q = 0:
///
/// xᵀ P x is the least cost ∫ xᵀQx + 2 xᵀNu + uᵀRu dt from x on of a control that leads to rest,
/// and u = −R⁻¹(Bᵀ P + Nᵀ) x reaches it. Structured doubling of the equation in discrete time that
/// Cayley's transform makes of it (Chu, Fan & Lin 2005), then a correction from a residual in twice
/// the precision of double; where that does not reach rounding, the matrix sign function of the
/// Hamiltonian and as many such corrections as it takes. An element Pᵢⱼ is right to a few epsilon
/// of √(Pᵢᵢ Pⱼⱼ), however ill-conditioned P is, up to a condition of about 1e16, and to 1e-8 or it
/// throws beyond that. Computed in double for float as well. P is exactly symmetric.
///
/// Units change nothing: states and inputs are first put into units that follow from the data, by
/// powers of two, so that P in other such units is the same P, bit for bit.
///
/// Where P is that ill-conditioned, the rounding of P may cost the gain all its digits; lqr's K is
/// rounded from that of the P in twice the precision, and stabilizes.
///
/// @param A (states, states), 1/s
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive definite
/// @param N (states, inputs), the cost of state and input together; absent for 0
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R not positive definite, or a matrix not
/// finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the imaginary axis unseen; the sentence
///   names the mode
/// Cost: about 150 states³ of multiplications and additions, and no allocation for fixed sizes of
/// up to 40; twenty times that where doubling does not do, more for the worst conditioned.
template <class DA, class DB, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1)
    [[nodiscard]] auto riccati(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                               const Eigen::MatrixBase<DQ>& Q, const Eigen::MatrixBase<DR>& R,
                               const Eigen::MatrixBase<DN>&... N) {
  const detail::RiccatiCaller caller{"riccati", detail::epsilon_of<typename DQ::Scalar>};
  return detail::cost_to_go(caller, detail::Time::continuous, A, B, Q, R, N...);
}

/// The stabilizing solution P of the discrete algebraic Riccati equation
///
///   Aᵀ P A − P − (Aᵀ P B + N) (R + Bᵀ P B)⁻¹ (Aᵀ P B + N)ᵀ + Q = 0:
///
/// xᵀ P x is the least cost Σ xᵀQx + 2 xᵀNu + uᵀRu from x on of a control that leads to rest, and
/// u = −(R + BᵀPB)⁻¹ (BᵀPA + Nᵀ) x reaches it. Structured doubling, then corrections as riccati
/// makes them, by doublings again where one is not enough, and as accurate, in any units; a
/// singular A is as good as any. R may be singular, 0 among them, where Q sees what each such input
/// moves. Computed in double for float as well. P is exactly symmetric.
///
/// A Kalman filter's predicted covariance is discrete_riccati(Aᵀ, Cᵀ, Q, R).
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param Q (states, states), symmetric, positive semidefinite
/// @param R (inputs, inputs), symmetric, positive semidefinite
/// @param N (states, inputs), the cost of state and input together; absent for 0
/// @throws ShapeError
/// @throws DomainError when Q or R is not symmetric, R indefinite, or a matrix not finite
/// @throws ConvergenceError when there is no stabilizing solution that double can tell from none:
///   (A, B) is not stabilizable, or Q leaves a mode on the unit circle unseen; the sentence names
///   the mode
/// Cost: as riccati.
template <class DA, class DB, class DQ, class DR, class... DN>
requires(sizeof...(DN) <= 1) [[nodiscard]] auto discrete_riccati(
    const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DQ>& Q,
    const Eigen::MatrixBase<DR>& R, const Eigen::MatrixBase<DN>&... N) {
  const detail::RiccatiCaller caller{"discrete_riccati", detail::epsilon_of<typename DQ::Scalar>};
  return detail::cost_to_go(caller, detail::Time::discrete, A, B, Q, R, N...);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/riccati_impl.hpp"
#endif
