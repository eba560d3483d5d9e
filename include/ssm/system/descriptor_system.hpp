#pragma once

#include <array>
#include <complex>
#include <concepts>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/siso_response.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

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
/// The same inputs and outputs without equations and states of their own for what has no
/// derivative.
/// @throws DomainError when the transfer function is improper
[[nodiscard]] Quadruple without_algebraic(std::string_view function, const DescriptorParts& parts);
/// The system of the first `algebraic` of v and (0, y), whose zeros are the poles.
[[nodiscard]] Quadruple constraints_of(const DescriptorParts& parts);
/// C (λE − A)⁻¹ B + D at each point.
[[nodiscard]] std::vector<ComplexMatrix> descriptor_responses(
    const DescriptorParts& parts, const std::vector<std::complex<double>>& points);
/// The zeros, poles and gain of one input and one output.
struct DescriptorRoots {
  ComplexVector zeros, poles;
  double gain;
};
[[nodiscard]] DescriptorRoots descriptor_roots(std::string_view function,
                                               const DescriptorParts& parts);

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

  /// How many equations and states it has.
  [[nodiscard]] Index states() const noexcept { return A_.rows(); }
  /// How many inputs it has.
  [[nodiscard]] Index inputs() const noexcept { return D_.cols(); }
  /// How many outputs it has.
  [[nodiscard]] Index outputs() const noexcept { return D_.rows(); }
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
  return detail::to_eigen<Result>(
      detail::zeros_of("zeros", detail::parts_of("zeros", system, tolerance).system, tolerance));
}

/// The system of derivatives alone that a descriptor system of a proper transfer function is: its
/// constraints are solved for the states whose derivative they do not hold. Where they do not
/// determine these, as in a loop of capacitors, constraints on the others are differentiated, which
/// takes states away; what derivatives of inputs then come in are taken into the states, and must
/// not reach the outputs. What simulates, samples and designs a StateSpace then serves it; the
/// states are others, the outputs the same, from a start that obeys the constraints.
///
/// @param system the system
/// @param tolerance the relative error that the elements of E have, which decides its rank;
///   rounding when 0
/// @return as many states as E has rank, less those that constraints bind
/// @throws DomainError when the system is not finite, tolerance is not in [0, 1), λE − A is
///   singular at every λ, or the transfer function is improper: an output holds the derivative of
///   an input
/// Cost: about 20 states³, for each time that constraints are differentiated.
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
  return detail::to_eigen<Result>(
      detail::descriptor_responses(parts, {std::complex<double>(point)}).front());
}

/// G(iω) of a continuous descriptor system of any index at many frequencies.
///
/// @param system the system
/// @param omega ω, rad/s
/// @return (outputs, inputs) for each ω
/// @throws DomainError as at one point
/// Cost: about 30 states³ once, and states² + constraints³ a frequency.
template <std::floating_point T>
[[nodiscard]] auto frequency_response(const DescriptorSystem<T>& system,
                                      const std::vector<T>& omega) {
  using Result = Eigen::Matrix<std::complex<T>, Dynamic, Dynamic>;
  std::vector<std::complex<double>> points;
  for (const T frequency : omega) points.emplace_back(0, static_cast<double>(frequency));
  std::vector<Result> responses;
  for (const detail::ComplexMatrix& G :
       detail::descriptor_responses(detail::parts_of("frequency_response", system, 0), points))
    responses.push_back(detail::to_eigen<Result>(G));
  return responses;
}

/// The zeros, poles and gain of one channel of a descriptor system of any index; improper ones have
/// more zeros than poles.
///
/// @param system the system
/// @param output, input which channel
/// @throws ShapeError when there is no such channel
/// @throws DomainError when the system is not finite or λE − A is singular at every λ
/// Cost: about 200 states³.
template <std::floating_point T>
[[nodiscard]] ZerosPolesGain<T> zeros_poles_gain(const DescriptorSystem<T>& system,
                                                 Index output = 0, Index input = 0) {
  constexpr std::string_view function = "zeros_poles_gain";
  using Roots = typename ZerosPolesGain<T>::Roots;
  if (output < 0 || output >= system.outputs() || input < 0 || input >= system.inputs())
    detail::throw_shape(
        function, "the channel", detail::to_string(std::array<Index, 2>{output, input}),
        "below " + detail::to_string(std::array<Index, 2>{system.outputs(), system.inputs()}));
  const DescriptorSystem<T> channel(system.E(), system.A(), system.B().col(input),
                                    system.C().row(output), system.D().block(output, input, 1, 1));
  const detail::DescriptorRoots roots =
      detail::descriptor_roots(function, detail::parts_of(function, channel, 0));
  return {detail::to_eigen<Roots>(roots.zeros), detail::to_eigen<Roots>(roots.poles),
          static_cast<T>(roots.gain)};
}

/// One channel of a continuous descriptor system for bode, margins and nyquist.
/// @param system the system
/// @param output, input which channel
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <std::floating_point T>
[[nodiscard]] SisoResponse siso_response(const DescriptorSystem<T>& system, Index output = 0,
                                         Index input = 0) {
  return SisoResponse(zeros_poles_gain(system, output, input));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/descriptor_system_impl.hpp"
#endif
