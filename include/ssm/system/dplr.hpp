#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/system/hippo.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// What dplr makes, in double.
struct DplrForm {
  ComplexVector lambda;   ///< (state/2)
  ComplexMatrix P, B, V;  ///< (state/2, rank), (state/2, 1), (state, state/2)
};
/// @throws DomainError unless A + P Pᵀ is c I + skew
[[nodiscard]] DplrForm dplr_form(const RealMatrix& A, const RealMatrix& B, const RealMatrix& P);

SSM_END_COMPILED

namespace ssm {

/// The input side of a real diagonal system in complex coordinates, h' = Λ h + B u, with one
/// coordinate of every conjugate pair: y = 2 Re(C h).
template <std::floating_point T>
struct DiagonalModes {
  Eigen::Matrix<std::complex<T>, Dynamic, 1> lambda;  ///< Λ (state/2), 1/s
  Eigen::Matrix<std::complex<T>, Dynamic, 1> B;       ///< (state/2)
};

/// A real system x' = A x + B u of an even number of states in the coordinates h of x = 2 Re(V h),
/// where A is diagonal plus low rank (DPLR): of every conjugate pair one, the other being conj(h),
///
///   h' = Λ h − P (P* h + conj(P* h)) + B u,  y = C x = 2 Re(C V h).
template <std::floating_point T>
struct Dplr {
  Eigen::Matrix<std::complex<T>, Dynamic, 1> lambda;  ///< Λ (state/2), 1/s, Im Λ ≥ 0, ascending
  Eigen::Matrix<std::complex<T>, Dynamic, Dynamic> P;  ///< (state/2, rank)
  Eigen::Matrix<std::complex<T>, Dynamic, 1> B;        ///< (state/2)
  Eigen::Matrix<std::complex<T>, Dynamic, Dynamic> V;  ///< (state, state/2); [V conj(V)] is unitary
};

namespace detail {

inline void check_even(std::string_view function, Index state) {
  if (state < 2 || state % 2 != 0)
    throw_domain(function, "state", std::to_string(state), "even and at least 2");
}

}  // namespace detail

/// Brings a normal-plus-low-rank system into DPLR form (Gu, Goel & Ré 2022, theorem 1): with
/// S = A + P Pᵀ = c I + K, K skew, Re Λ = mean(diag S), and Im Λ and the unitary V come from the
/// Schur form of K in double, which is diagonal. (A general eigensolver on A would meet
/// eigenvectors of condition 8e10 at 16 states of LegS.)
///
/// @param A (state, state), real
/// @param B (state)
/// @param P (state, rank), of any rank, 0 among them
/// @throws ShapeError, and DomainError when the states are odd or A + P Pᵀ is not c I + skew to
///   within 1e-4 of the size of both
/// Cost: O(state³).
template <class DA, class DB, class DP>
[[nodiscard]] Dplr<typename DA::Scalar> dplr(const Eigen::MatrixBase<DA>& A,
                                             const Eigen::MatrixBase<DB>& B,
                                             const Eigen::MatrixBase<DP>& P) {
  using T = typename DA::Scalar;
  constexpr std::string_view name = "dplr";
  const Index state = A.rows();
  detail::check_matrix(name, "A", A, state, state);
  detail::check_matrix(name, "B", B, state, 1);
  detail::check_matrix(name, "P", P, state, P.cols());
  detail::check_even(name, state);

  using detail::RealMatrix, detail::to_eigen;
  const auto form = detail::dplr_form(RealMatrix(A), RealMatrix(B), RealMatrix(P));
  using Vector = Eigen::Matrix<std::complex<T>, Dynamic, 1>;
  using Matrix = Eigen::Matrix<std::complex<T>, Dynamic, Dynamic>;
  return {to_eigen<Vector>(form.lambda), to_eigen<Matrix>(form.P), to_eigen<Matrix>(form.B),
          to_eigen<Matrix>(form.V)};
}

/// The DPLR form of a HiPPO system, for S4.
/// @param measure which memory
/// @param window θ, s, as for hippo
/// @param state N, even; window θ, s
/// @throws DomainError as hippo_correction and dplr
/// Cost: O(N³).
template <std::floating_point T>
[[nodiscard]] Dplr<T> hippo_dplr(Hippo measure, Index state, T window = T(1)) {
  using Real = std::common_type_t<T, double>;
  const auto theta = static_cast<Real>(window);
  const auto system = hippo<Real>(measure, state, theta);
  const auto form = dplr(system.A(), system.B(), hippo_correction<Real>(measure, state, theta));
  return {form.lambda.template cast<std::complex<T>>(), form.P.template cast<std::complex<T>>(),
          form.B.template cast<std::complex<T>>(), form.V.template cast<std::complex<T>>()};
}

/// Where the modes of a diagonal model start (Gu, Gupta, Goel & Ré 2022).
enum class S4dInit {
  lin,   ///< −½ + iπn  (eq. 9)
  inv,   ///< −½ + i(N/π)(N/(2n + 1) − 1)  (eq. 8)
  legs,  ///< the diagonal of the DPLR form of LegS, with B/2: LegS itself as N → ∞  (theorem 3)
  real   ///< −(n + 1)
};

/// The initial Λ and B of S4D, n = 0 … N/2 − 1. B = 1 but for legs.
/// @param init which of them
/// @param state N, even
/// @throws DomainError unless the state is even and at least 2
/// Cost: O(N), for legs O(N³).
template <std::floating_point T>
[[nodiscard]] DiagonalModes<T> s4d_modes(S4dInit init, Index state) {
  detail::check_even("s4d_modes", state);
  const Index half = state / 2;
  DiagonalModes<T> modes{Eigen::Matrix<std::complex<T>, Dynamic, 1>(half),
                         Eigen::Matrix<std::complex<T>, Dynamic, 1>::Ones(half)};
  if (init == S4dInit::legs) {
    const Dplr<T> form = hippo_dplr<T>(Hippo::legs, state);
    return {form.lambda, form.B / T(2)};
  }
  const auto size = static_cast<double>(state);
  for (Index i = 0; i < half; ++i) {
    const auto n = static_cast<double>(i);
    const double frequency = init == S4dInit::lin ? std::numbers::pi * n
                             : init == S4dInit::inv
                                 ? size / std::numbers::pi * (size / (2 * n + 1) - 1)
                                 : 0.0;
    modes.lambda(i) = {static_cast<T>(init == S4dInit::real ? -(n + 1) : -0.5),
                       static_cast<T>(frequency)};
  }
  return modes;
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/dplr_impl.hpp"
#endif
