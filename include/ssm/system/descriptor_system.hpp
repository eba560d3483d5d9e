#pragma once

#include <array>
#include <complex>
#include <concepts>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// E x' = A x + B u, y = C x + D u with E brought to [I 0; 0 0]: x1' = A x1 + B v, and with v =
/// (x2, u) the equations without a derivative and the outputs, (0, y) = C x1 + D v. The finite
/// zeros of this system, with or without u and y, are the poles and zeros of the given one,
/// whatever its index.
struct DescriptorParts {
  Quadruple system;
  Index algebraic = 0;  ///< equations without a derivative
};
/// @throws DomainError when something is not finite, tolerance is not in [0, 1), or λE − A is
/// singular at every λ
[[nodiscard]] DescriptorParts descriptor_parts(std::string_view function, RealMatrix E,
                                               Quadruple system, double tolerance);
/// @throws DomainError when the equations without a derivative do not determine x2
[[nodiscard]] Quadruple without_algebraic(std::string_view function, const DescriptorParts& parts);
/// The system of the first `algebraic` of v and (0, y), whose zeros are the poles.
[[nodiscard]] Quadruple constraints_of(const DescriptorParts& parts);
/// C (λE − A)⁻¹ B + D.
[[nodiscard]] ComplexMatrix descriptor_response(const DescriptorParts& parts,
                                                std::complex<double> point);

SSM_END_COMPILED

namespace ssm {

/// A descriptor system, whose states obey equations with and without derivatives:
///
///   E x' = A x + B u,  y = C x + D u,  or sampled,  E x_{t+1} = A x_t + B u_t.
///
/// E may be singular, but λE − A may not at every λ, where no state would follow from the inputs:
/// all that is asked of such a system is refused. The rows of E that are without derivatives are
/// constraints, as circuits and linkages have them. Immutable.
template <std::floating_point T>
class DescriptorSystem {
 public:
  /// The scalar of the matrices.
  using Scalar = T;
  /// Any size.
  using Matrix = Eigen::Matrix<T, Dynamic, Dynamic>;

  /// @param E (states, states), of any rank
  /// @param A (states, states)
  /// @param B (states, inputs)
  /// @param C (outputs, states)
  /// @param D (outputs, inputs)
  /// @throws ShapeError when the shapes do not fit each other
  DescriptorSystem(const Matrix& E, const Matrix& A, const Matrix& B, const Matrix& C,
                   const Matrix& D)
      : E_(E), A_(A), B_(B), C_(C), D_(D) {
    constexpr std::string_view name = "DescriptorSystem";
    detail::check_matrix(name, "E", E, A.rows(), A.rows());
    detail::check_matrix(name, "A", A, A.rows(), A.rows());
    detail::check_matrix(name, "B", B, A.rows(), B.cols());
    detail::check_matrix(name, "C", C, C.rows(), A.rows());
    detail::check_matrix(name, "D", D, C.rows(), B.cols());
  }

  /// E (states, states).
  [[nodiscard]] const Matrix& E() const noexcept { return E_; }
  /// A (states, states).
  [[nodiscard]] const Matrix& A() const noexcept { return A_; }
  /// B (states, inputs).
  [[nodiscard]] const Matrix& B() const noexcept { return B_; }
  /// C (outputs, states).
  [[nodiscard]] const Matrix& C() const noexcept { return C_; }
  /// D (outputs, inputs).
  [[nodiscard]] const Matrix& D() const noexcept { return D_; }

 private:
  Matrix E_, A_, B_, C_, D_;
};

/// Deduces the scalar type from E.
template <class DE, class DA, class DB, class DC, class DD>
DescriptorSystem(const Eigen::MatrixBase<DE>&, const Eigen::MatrixBase<DA>&,
                 const Eigen::MatrixBase<DB>&, const Eigen::MatrixBase<DC>&,
                 const Eigen::MatrixBase<DD>&) -> DescriptorSystem<typename DE::Scalar>;

namespace detail {

template <class T>
DescriptorParts parts_of(std::string_view function, const DescriptorSystem<T>& system,
                         double tolerance) {
  return descriptor_parts(function, RealMatrix(system.E()),
                          {RealMatrix(system.A()), RealMatrix(system.B()), RealMatrix(system.C()),
                           RealMatrix(system.D())},
                          tolerance);
}

}  // namespace detail

/// The finite λ at which λE − A is singular, of any index: they are the finite zeros of what is
/// left when E is brought to [I 0; 0 0].
///
/// @param system the system
/// @param tolerance the relative error that the elements of the matrices have; rounding when 0
/// @return as many as there are, at most as many as E has rank
/// @throws DomainError when the system is not finite, tolerance is not in [0, 1), or λE − A is
///   singular at every λ
/// Cost: about 100 states³.
template <std::floating_point T>
[[nodiscard]] auto poles(const DescriptorSystem<T>& system, double tolerance = 0) {
  using Result = Eigen::Matrix<std::complex<T>, Dynamic, 1>;
  return detail::to_eigen<Result>(detail::zeros_of(
      "poles", constraints_of(detail::parts_of("poles", system, tolerance)), tolerance));
}

/// The finite invariant zeros of a descriptor system, where [A − λE, B; C, D] loses rank.
///
/// @param system the system
/// @param tolerance the relative error that the elements of the matrices have; rounding when 0
/// @throws DomainError when the system is not finite, tolerance is not in [0, 1), or λE − A is
///   singular at every λ
/// Cost: about 100 states³.
template <std::floating_point T>
[[nodiscard]] auto zeros(const DescriptorSystem<T>& system, double tolerance = 0) {
  using Result = Eigen::Matrix<std::complex<T>, Dynamic, 1>;
  return detail::to_eigen<Result>(detail::zeros_of(
      "zeros", detail::parts_of("zeros", system, tolerance).system, tolerance));
}

/// The system of derivatives alone that a descriptor system of index 0 or 1 is: its constraints are
/// solved for the states whose derivative they do not hold. What simulates, samples and designs a
/// StateSpace then serves it; the states are others, the outputs the same.
///
/// @param system the system
/// @param tolerance the relative error that the elements of E have, which decides its rank;
///   rounding when 0
/// @return as many states as E has rank
/// @throws DomainError when the system is not finite, tolerance is not in [0, 1), λE − A is
/// singular
///   at every λ, or the constraints do not determine these states: the index is above 1, and inputs
///   would be differentiated
/// Cost: about 20 states³.
template <std::floating_point T>
[[nodiscard]] StateSpace<T> state_space(const DescriptorSystem<T>& system, double tolerance = 0) {
  using Matrix = typename DescriptorSystem<T>::Matrix;
  const detail::Quadruple q =
      detail::without_algebraic("state_space", detail::parts_of("state_space", system, tolerance));
  return {detail::to_eigen<Matrix>(q.A), detail::to_eigen<Matrix>(q.B),
          detail::to_eigen<Matrix>(q.C), detail::to_eigen<Matrix>(q.D)};
}

/// The same of E x_{t+1} = A x_t + B u_t.
/// @param system the system
/// @param delta Δ, s, positive
/// @param tolerance as of state_space
/// @throws DomainError as state_space does, and when Δ is not positive and finite
template <std::floating_point T>
[[nodiscard]] DiscreteStateSpace<T> discrete_state_space(const DescriptorSystem<T>& system,
                                                         std::type_identity_t<T> delta,
                                                         double tolerance = 0) {
  const StateSpace<T> q = state_space(system, tolerance);
  return {q.A(), q.B(), q.C(), q.D(), delta};
}

/// G(λ) = C (λE − A)⁻¹ B + D of a descriptor system of any index, at a complex s (1/s) or z; not
/// finite at a pole.
///
/// @param system the system
/// @param point λ
/// @return (outputs, inputs)
/// @throws DomainError when the system is not finite or λE − A is singular at every λ
/// Cost: about 30 states³.
template <std::floating_point T>
[[nodiscard]] auto frequency_response(const DescriptorSystem<T>& system, std::complex<T> point) {
  using Result = Eigen::Matrix<std::complex<T>, Dynamic, Dynamic>;
  const detail::DescriptorParts parts = detail::parts_of("frequency_response", system, 0);
  return detail::to_eigen<Result>(detail::descriptor_response(parts, std::complex<double>(point)));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/descriptor_system_impl.hpp"
#endif
