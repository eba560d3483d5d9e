#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/siso_response.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

namespace ssm {

/// A continuous system whose inputs arrive and whose outputs leave late:
///
///   x'(t) = A x(t) + B v(t),  v_i(t) = u_i(t − input_delay(i)),
///   y_j(t) = w_j(t − output_delay(j)),  w(t) = C x(t) + D v(t).
///
/// Its frequency response, its zero-order hold (also with delays that are no whole number of steps)
/// and its simulation are exact; pade gives a system without delays that is near it at low
/// frequencies.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class DelayedSystem {
 public:
  using Scalar = T;                                       ///< of a matrix
  using System = StateSpace<T, States, Inputs, Outputs>;  ///< without the delays
  using InputDelay = Eigen::Matrix<T, Inputs, 1>;         ///< (inputs), s
  using OutputDelay = Eigen::Matrix<T, Outputs, 1>;       ///< (outputs), s

  /// @param system A, B, C, D
  /// @param input_delay (inputs), s, ≥ 0
  /// @param output_delay (outputs), s, ≥ 0
  /// @throws ShapeError
  /// @throws DomainError when a delay is negative or not finite
  DelayedSystem(System system, InputDelay input_delay, OutputDelay output_delay)
      : system_(std::move(system)),
        input_delay_(std::move(input_delay)),
        output_delay_(std::move(output_delay)) {
    check("input_delay", input_delay_, system_.inputs());
    check("output_delay", output_delay_, system_.outputs());
  }
  /// The same without output delays.
  DelayedSystem(System system, InputDelay input_delay)
      : DelayedSystem(system, std::move(input_delay), OutputDelay::Zero(system.outputs())) {}
  /// All inputs late by the same time, s.
  DelayedSystem(System system, T delay)
      : DelayedSystem(system, InputDelay::Constant(system.inputs(), delay)) {}

  /// Without the delays.
  [[nodiscard]] const System& system() const noexcept { return system_; }
  /// (inputs), s.
  [[nodiscard]] const InputDelay& input_delay() const noexcept { return input_delay_; }
  /// (outputs), s.
  [[nodiscard]] const OutputDelay& output_delay() const noexcept { return output_delay_; }
  /// How many inputs it has.
  [[nodiscard]] Index inputs() const noexcept { return system_.inputs(); }
  /// How many outputs it has.
  [[nodiscard]] Index outputs() const noexcept { return system_.outputs(); }

 private:
  template <class Vector>
  static void check(std::string_view argument, const Vector& delay, Index size) {
    constexpr std::string_view name = "DelayedSystem";
    detail::check_matrix(name, argument, delay, size, 1);
    for (Index i = 0; i < size; ++i)
      if (!(delay(i) >= T(0) && std::isfinite(delay(i))))
        detail::throw_domain(name, std::string(argument) + " of " + detail::number(i),
                             detail::number(delay(i)), ">= 0 and finite");
  }

  System system_;
  InputDelay input_delay_;
  OutputDelay output_delay_;
};

/// Deduces the scalar type and the sizes from the system.
template <class T, int N, int M, int P, class... Delays>
DelayedSystem(const StateSpace<T, N, M, P>&, const Delays&...) -> DelayedSystem<T, N, M, P>;

namespace detail {

/// Of all inputs of a delayed discrete system together, samples: its A has the square of that.
inline constexpr Index longest_register = 10'000;

}  // namespace detail

/// A discrete system whose inputs arrive late by whole samples, z^{−samples} of each: shift
/// registers before it, inputs · samples states more.
/// @param system read before the step
/// @param samples (inputs), how many for each input, ≥ 0
/// @return its states, then those of the registers
/// @throws ShapeError
/// @throws DomainError when one is negative, or all together are more than 10⁴
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, M, P> delayed(
    const DiscreteStateSpace<T, N, M, P>& system,
    const std::type_identity_t<Eigen::Matrix<Index, M, 1>>& samples) {
  detail::check_matrix("delayed", "samples", samples, system.inputs(), 1);
  const Index n = system.states(), m = system.inputs(), p = system.outputs();
  Index states = n;
  for (Index i = 0; i < m; ++i) {
    if (samples(i) < 0)
      detail::throw_domain("delayed", "samples of " + detail::number(i), detail::number(samples(i)),
                           ">= 0");
    if (samples(i) > detail::longest_register - (states - n))
      detail::throw_domain("delayed", "samples of " + detail::number(i), detail::number(samples(i)),
                           "at most 10^4 of all inputs together");
    states += samples(i);
  }
  using Matrix = Eigen::Matrix<T, Dynamic, Dynamic>;
  Matrix A = Matrix::Zero(states, states), B = Matrix::Zero(states, m);
  Matrix C = Matrix::Zero(p, states), D = Matrix::Zero(p, m);
  A.topLeftCorner(n, n) = system.A_bar();
  C.leftCols(n) = system.C();
  Index at = n;
  for (Index i = 0; i < m; ++i) {
    const Index count = samples(i);
    if (count == 0) {
      B.col(i).head(n) = system.B_bar().col(i);
      D.col(i) = system.D().col(i);
      continue;
    }
    B(at, i) = T(1);  // from one place of the register to the next, then into the system
    for (Index k = 1; k < count; ++k) A(at + k, at + k - 1) = T(1);
    at += count;
    A.col(at - 1).head(n) = system.B_bar().col(i);
    C.col(at - 1) = system.D().col(i);
  }
  return {A, B, C, D, system.delta()};
}
/// The same with all inputs late by as many samples.
/// @throws DomainError when it is negative, or all together are more than 10⁴
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, M, P> delayed(
    const DiscreteStateSpace<T, N, M, P>& system, Index samples) {
  return delayed(system, Eigen::Matrix<Index, M, 1>::Constant(system.inputs(), 1, samples));
}

/// The transfer function of a delayed system, exactly:
/// e^{−s output_delay(j)} G_ji(s) e^{−s input_delay(i)}.
template <std::floating_point T, int Inputs = Dynamic, int Outputs = Dynamic>
class DelayedFrequencyResponse {
 public:
  /// (outputs, inputs).
  using Response = typename FrequencyResponse<T, Inputs, Outputs>::Response;

  /// @param delayed the system and its delays
  /// @throws DomainError when A is not finite
  /// Cost: that of FrequencyResponse.
  template <int States>
  explicit DelayedFrequencyResponse(const DelayedSystem<T, States, Inputs, Outputs>& delayed)
      : response_(delayed.system()),
        input_delay_(delayed.input_delay()),
        output_delay_(delayed.output_delay()) {}

  /// G at a complex s, 1/s; not finite at a pole.
  [[nodiscard]] Response at(std::complex<T> s) const {
    Response G = response_.at(s);
    for (Index j = 0; j < G.rows(); ++j)
      for (Index i = 0; i < G.cols(); ++i)
        G(j, i) *= std::exp(-s * (input_delay_(i) + output_delay_(j)));
    return G;
  }
  /// G(iω).
  /// @param omega ω, rad/s
  [[nodiscard]] Response operator()(T omega) const { return at({T(0), omega}); }

 private:
  FrequencyResponse<T, Inputs, Outputs> response_;
  Eigen::Matrix<T, Inputs, 1> input_delay_;
  Eigen::Matrix<T, Outputs, 1> output_delay_;
};

/// Deduces the scalar type and the sizes from the system.
template <class T, int N, int M, int P>
DelayedFrequencyResponse(const DelayedSystem<T, N, M, P>&) -> DelayedFrequencyResponse<T, M, P>;

/// One channel of a delayed system with its delay, for margins, nyquist and bode.
/// @param delayed the system and its delays
/// @param output, input which channel
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <class T, int N, int M, int P>
[[nodiscard]] SisoResponse siso_response(const DelayedSystem<T, N, M, P>& delayed, Index output = 0,
                                         Index input = 0) {
  return SisoResponse(delayed.system(), output, input)
      .delayed(static_cast<double>(delayed.input_delay()(input)) +
               static_cast<double>(delayed.output_delay()(output)));
}

namespace detail {

/// One past the highest order whose Padé denominator keeps its digits as a polynomial.
inline constexpr int highest_pade_order = 20;

inline void check_pade(std::string_view function, double delay, int order) {
  check_elapsed(function, delay);
  if (order < 0 || order > highest_pade_order)
    throw_domain(function, "order", detail::number(order),
                 "0 to " + detail::number(highest_pade_order));
}

}  // namespace detail

/// The diagonal Padé approximant of a delay, e^{−sτ} ≈ Q(−sτ)/Q(sτ) with
/// Q(z) = Σ_k (2n − k)! n! / ((2n)! k! (n − k)!) z^k: an all-pass whose phase is right until
/// ωτ ≈ 2n (Golub & Van Loan, Matrix Computations, section 9.3.1). The denominator is monic.
/// @param delay τ, s, ≥ 0
/// @param order n, 0 to 20; 0, or no delay, gives 1
/// @throws DomainError
template <std::floating_point T>
[[nodiscard]] TransferFunction<T> pade_delay(T delay, int order) {
  detail::check_pade("pade_delay", static_cast<double>(delay), order);
  const int n = delay == T(0) ? 0 : order;
  typename TransferFunction<T>::Coefficients above(n + 1), below(n + 1);
  double value = 1;  // of z^(n − i), over that of z^n
  for (int i = 0; i <= n; ++i) {
    below(i) = static_cast<T>(value);
    above(i) = (n - i) % 2 == 0 ? below(i) : -below(i);
    value *= double((n + i + 1) * (n - i)) / double(i + 1) / static_cast<double>(delay);
  }
  return {above, below};
}

/// A system without delays that is near the delayed one at low frequencies: each delay is replaced
/// by pade_delay, and those of no time by nothing.
/// @param delayed the system and its delays
/// @param order of each approximant, 0 to 20
/// @return a system of order more states for each delay that is not 0
/// @throws DomainError when the order is none of these
template <class T, int N, int M, int P>
[[nodiscard]] StateSpace<T, Dynamic, M, P> pade(const DelayedSystem<T, N, M, P>& delayed,
                                                int order) {
  using detail::RealMatrix;
  detail::check_pade("pade", 0, order);
  // Each bank of delays is one system, its approximants side by side.
  const auto bank = [&](const auto& delays) {
    const Index count = delays.size();
    Index states = 0;
    for (Index i = 0; i < count; ++i) states += delays(i) > T(0) ? order : 0;
    using Matrix = Eigen::Matrix<T, Dynamic, Dynamic>;
    Matrix A = Matrix::Zero(states, states), B = Matrix::Zero(states, count);
    Matrix C = Matrix::Zero(count, states), D = Matrix::Identity(count, count);
    Index at = 0;
    for (Index i = 0; i < count; ++i) {
      if (!(delays(i) > T(0)) || order == 0) continue;
      const auto one = state_space(pade_delay(delays(i), order));
      A.block(at, at, order, order) = one.A();
      B.block(at, i, order, 1) = one.B();
      C.block(i, at, 1, order) = one.C();
      D(i, i) = one.D()(0, 0);
      at += order;
    }
    return StateSpace<T>(A, B, C, D);
  };
  const auto& system = delayed.system();
  const StateSpace<T> dynamic(system.A(), system.B(), system.C(), system.D());
  const auto whole =
      series(series(bank(delayed.input_delay()), dynamic), bank(delayed.output_delay()));
  return {whole.A(), whole.B(), whole.C(), whole.D()};
}

}  // namespace ssm
