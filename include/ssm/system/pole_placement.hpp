#pragma once

#include <complex>
#include <string_view>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

using Poles = std::vector<std::complex<double>>;

/// The real poles, then one of each conjugate pair, the one above the real axis.
/// @throws DomainError when a complex pole lacks its conjugate
[[nodiscard]] Poles half_of_conjugates(std::string_view function, Poles poles, double tolerance);

/// The gain of place_poles.
[[nodiscard]] RealMatrix place_poles(const RealMatrix& A, const RealMatrix& B, Poles half);

SSM_END_COMPILED

namespace ssm {

/// The gain K of u = −K x that gives A − B K the wanted poles.
///
/// With several inputs K is not unique: the eigenvectors of the closed loop are chosen to be as
/// independent as possible, so that its poles move least when A or B does (Kautsky, Nichols & Van
/// Dooren, "Robust pole assignment in linear state feedback", 1985; Tits & Yang 1996). With one
/// input K is unique and comes from Ackermann's formula in controller-Hessenberg form. What
/// rounding has kept a pole from is made up for by placing the poles of A − B K once more. High
/// orders are ill-conditioned: beyond ten states or so of a single input expect few digits, and
/// prefer lqr. A pole that is wanted more often than B has independent columns makes the closed
/// loop defective; then the poles are placed one after the other, each with the smallest gain (as
/// Varga 1981 does it in Schur form). Modes that no input moves stay where they are and must be
/// among the wanted. Neither units of time nor of states nor of inputs matter. Continuous and
/// discrete alike. Computed in double for float as well.
///
/// For an observer, place_poles(Aᵀ, Cᵀ, poles)ᵀ.
///
/// @param A (states, states)
/// @param B (states, inputs)
/// @param poles (states), real, or complex in conjugate pairs; an imaginary part within rounding
///   is none
/// @return K (inputs, states)
/// @throws ShapeError
/// @throws DomainError when a mode that no input moves is not among the wanted, which it names, a
///   complex pole lacks its conjugate, or something is not finite
/// @throws ConvergenceError when no finite K is found, or A − B K has a pole that is further than a
///   tenth from the one wanted: they are too hard to reach
/// Cost: some 2 states⁴ for each of up to 100, mostly about ten, sweeps; states³ for one input.
template <class DA, class DB, class DP>
[[nodiscard]] auto place_poles(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                               const Eigen::MatrixBase<DP>& poles) {
  using T = typename DA::Scalar;
  constexpr std::string_view function = "place_poles";
  detail::check_matrix(function, "A", A, A.rows(), A.rows());
  detail::check_matrix(function, "B", B, A.rows(), B.cols());
  detail::check_matrix(function, "poles", poles, A.rows(), 1);
  if (!A.allFinite() || !B.allFinite() || !poles.allFinite())
    detail::throw_domain(function, "A, B or poles", "not finite", "finite");
  detail::Poles wanted;
  for (Index i = 0; i < poles.size(); ++i) wanted.emplace_back(poles(i));
  const double tolerance = 100 * detail::epsilon_of<T>;
  return detail::to_eigen<Eigen::Matrix<T, DB::ColsAtCompileTime, DA::RowsAtCompileTime>>(
      detail::place_poles(detail::RealMatrix(A), detail::RealMatrix(B),
                          detail::half_of_conjugates(function, wanted, tolerance)));
}

/// The same of the A and B of a system.
/// @param system continuous or discrete
/// @param poles (states), 1/s, or their z
/// @return K (inputs, states)
/// @throws ShapeError, DomainError, ConvergenceError as the other
template <LinearSystem System, class DP>
[[nodiscard]] auto place_poles(const System& system, const Eigen::MatrixBase<DP>& poles) {
  return place_poles(detail::state_matrix(system), detail::input_matrix(system), poles);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/pole_placement_impl.hpp"
#endif
