#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/root_groups.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/polynomial.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// G(s) = Σ_j numerator(j) s^(m − j) / Σ_j denominator(j) s^(n − j), from one input to one output,
/// with the highest power first as in MATLAB, SciPy and python-control: 1/(s² + 0.8 s + 4) is
/// `TransferFunction<double>{{1}, {1, 0.8, 4}}`. In discrete time s is z. Zeros before the highest
/// power count for nothing, and a numerator without coefficients is 0.
///
/// Arithmetic is in transfer_function_arithmetic.hpp.
/// @tparam K float, double, or their complex numbers
template <class K>
struct TransferFunction {
  using Scalar = K;                                          ///< of a coefficient
  using Complex = std::complex<Real<K>>;                     ///< of a value
  using Coefficients = Eigen::Matrix<K, Eigen::Dynamic, 1>;  ///< highest power first

  Coefficients numerator;    ///< (m + 1), highest power first
  Coefficients denominator;  ///< (n + 1), highest power first

  TransferFunction() = default;
  /// Vectors of Eigen, highest power first.
  template <class DN, class DD>
  TransferFunction(const Eigen::MatrixBase<DN>& above, const Eigen::MatrixBase<DD>& below)
      : numerator(above), denominator(below) {}
  /// Lists of coefficients, highest power first: {{1}, {1, 0.8, 4}}.
  TransferFunction(std::initializer_list<K> above, std::initializer_list<K> below)
      : numerator(Eigen::Map<const Coefficients>(above.begin(), Index(above.size()))),
        denominator(Eigen::Map<const Coefficients>(below.begin(), Index(below.size()))) {}

  /// Of coefficients with the lowest power first: Σ_j numerator(j) s^j / Σ_j denominator(j) s^j.
  template <class DN, class DD>
  [[nodiscard]] static TransferFunction ascending(const Eigen::MatrixBase<DN>& numerator,
                                                  const Eigen::MatrixBase<DD>& denominator) {
    return {numerator.reverse(), denominator.reverse()};
  }
  /// The same of lists: ascending({1}, {4, 0.8, 1}) is 1/(s² + 0.8 s + 4).
  [[nodiscard]] static TransferFunction ascending(std::initializer_list<K> numerator,
                                                  std::initializer_list<K> denominator) {
    const TransferFunction reversed(numerator, denominator);
    return ascending(reversed.numerator, reversed.denominator);
  }

  /// G(s); not finite at a pole. Powers of a large s do not overflow.
  [[nodiscard]] Complex operator()(Complex s) const {
    const detail::DenseVector above = detail::trimmed(numerator);
    const detail::DenseVector below = detail::trimmed(denominator);
    return static_cast<Complex>(detail::ratio_at(above, below, std::complex<double>(s)));
  }
};

/// Deduces the scalar from the coefficients.
template <class DN, class DD>
TransferFunction(const Eigen::MatrixBase<DN>&, const Eigen::MatrixBase<DD>&)
    -> TransferFunction<typename DN::Scalar>;

/// G(s) = gain · Π (s − zeros(i)) / Π (s − poles(i)), from one input to one output. In discrete
/// time s is z. Where the gain is real, complex zeros and poles come in conjugate pairs; what
/// rounding has done to them, a pair that is not quite one or a real root with a trace of an
/// imaginary part, is undone.
/// @tparam K float, double, or their complex numbers
template <class K>
struct ZerosPolesGain {
  using Scalar = K;                       ///< of the gain
  using Complex = std::complex<Real<K>>;  ///< of a root and of a value
  /// Complex numbers, in any order.
  using Roots = Eigen::Matrix<Complex, Eigen::Dynamic, 1>;

  Roots zeros;  ///< in any order
  Roots poles;  ///< in any order
  K gain;       ///< what Π (s − zeros) / Π (s − poles) is multiplied by

  /// G(s).
  [[nodiscard]] Complex operator()(Complex s) const {
    Complex value = gain;
    for (Index i = 0; i < (std::max)(zeros.size(), poles.size()); ++i) {
      if (i < zeros.size()) value *= s - zeros(i);
      if (i < poles.size()) value /= s - poles(i);
    }
    return value;
  }
};

namespace detail {

template <class K>
void check_finite(std::string_view function, const TransferFunction<K>& transfer) {
  if (!transfer.numerator.allFinite()) throw_domain(function, "numerator", "not finite", "finite");
  if (!transfer.denominator.allFinite())
    throw_domain(function, "denominator", "not finite", "finite");
}

template <class K>
void check_finite(std::string_view function, const ZerosPolesGain<K>& roots) {
  if (!roots.zeros.allFinite()) throw_domain(function, "zeros", "not finite", "finite");
  if (!roots.poles.allFinite()) throw_domain(function, "poles", "not finite", "finite");
  if (!std::isfinite(std::abs(roots.gain))) throw_domain(function, "gain", "not finite", "finite");
}

/// Numerator and denominator in double without leading zeros; of the numerator 0, nothing.
template <class K>
struct Fraction {
  DenseVector<K> above, below;
};

/// @throws ShapeError when there is no denominator
/// @throws DomainError when it is 0, or a coefficient is not finite
template <class K>
Fraction<DoubleOf<K>> fraction_of(std::string_view function, const TransferFunction<K>& transfer) {
  if (transfer.denominator.size() == 0)
    throw_shape(function, "denominator", "(0)", "one coefficient or more");
  check_finite(function, transfer);
  Fraction<DoubleOf<K>> fraction{trimmed(transfer.numerator), trimmed(transfer.denominator)};
  if (fraction.below.size() == 0) throw_domain(function, "denominator", "0", "not 0");
  return fraction;
}

/// The same of what must be proper.
template <class K>
Fraction<DoubleOf<K>> proper_fraction_of(std::string_view function,
                                         const TransferFunction<K>& transfer) {
  auto fraction = fraction_of(function, transfer);
  if (fraction.above.size() > fraction.below.size())
    throw_shape(function, "numerator", "of degree " + std::to_string(fraction.above.size() - 1),
                "at most the degree of the denominator, " +
                    std::to_string(fraction.below.size() - 1) + ": a proper transfer function");
  return fraction;
}

template <class K, class Kd>
TransferFunction<K> to_transfer_function(const Fraction<Kd>& fraction) {
  using Coefficients = typename TransferFunction<K>::Coefficients;
  if (fraction.above.size() == 0)
    return {Coefficients::Zero(1), to_eigen<Coefficients>(fraction.below)};
  return {to_eigen<Coefficients>(fraction.above), to_eigen<Coefficients>(fraction.below)};
}

/// Π (s − zeros) / Π (s − poles) of one or two poles, as a system.
struct Section {
  RealMatrix A, B, C;
  double D;

  Section(const RootList& poles, const RootList& zeros)
      : A(static_cast<Index>(poles.size()), static_cast<Index>(poles.size())),
        B(RealMatrix::Identity(A.rows(), 1)),
        C(1, A.rows()),
        D(zeros.size() == poles.size() ? 1 : 0) {
    const auto numerator = [&](double s) {
      std::complex<double> value = 1;
      for (const auto& zero : zeros) value *= s - zero;
      return value.real();
    };
    double sum_of_zeros = 0;
    for (const auto& zero : zeros) sum_of_zeros += zero.real();
    const bool biproper = zeros.size() == poles.size();
    const double p = poles[0].real();
    A(0, 0) = p;
    if (poles.size() == 1) {
      C(0, 0) = biproper ? p - zeros[0].real() : 1;
      return;
    }
    // n(s) = d (s − p)(s − q) + c_1 (s − q) + c_2 in Newton's form, of real poles or of a pair.
    const double q = poles[1].real(), turn = std::abs(poles[0].imag());
    A(1, 1) = q;
    A(0, 1) = -turn;
    A(1, 0) = turn > 0 ? turn : 1;
    C(0, 0) = biproper ? p + q - sum_of_zeros : static_cast<double>(zeros.size());
    C(0, 1) = (numerator(q) - (biproper ? turn * turn : 0)) / A(1, 0);
  }
};

}  // namespace detail

namespace detail {

/// zeros_poles_gain of a system, with its errors.
template <LinearSystem System>
auto roots_of_channel(std::string_view function, const System& system, Index output, Index input,
                      Readout readout) {
  using T = typename System::Scalar;
  if (output < 0 || output >= system.outputs() || input < 0 || input >= system.inputs())
    throw_shape(function, "the channel", to_string(std::array<Index, 2>{output, input}),
                "below " + to_string(std::array<Index, 2>{system.outputs(), system.inputs()}));
  using Roots = typename ZerosPolesGain<T>::Roots;
  const Index states = system.states();
  Quadruple channel(system, readout);
  channel.B = channel.B.block(0, input, states, 1);
  channel.C = channel.C.block(output, 0, 1, states);
  channel.D = channel.D.block(output, input, 1, 1);
  const ComplexVector zeros = zeros_of(function, channel);
  const ComplexVector poles = eigenvalues_of(function, channel.A);
  double gain = channel.D(0, 0), farthest_pole = 0, farthest_zero = 0;
  for (Index i = 0; i < poles.size(); ++i)
    farthest_pole = (std::max)(farthest_pole, std::abs(poles(i)));
  for (Index i = 0; i < zeros.size(); ++i)
    farthest_zero = (std::max)(farthest_zero, std::abs(zeros(i)));
  if (farthest_zero > 1000 * farthest_pole && farthest_pole > 0) {
    gain = gain_amid_poles(channel, zeros, poles);
  } else if (zeros.size() < states) {
    RealMatrix reached = channel.B;
    for (Index i = zeros.size() + 1; i < states; ++i) reached = channel.A * reached;
    gain = (channel.C * reached)(0, 0);
  }
  return ZerosPolesGain<T>{to_eigen<Roots>(zeros), to_eigen<Roots>(poles), static_cast<T>(gain)};
}

}  // namespace detail

/// The zeros, poles and gain of one channel of a system: its transmission zeros and poles,
/// cancelled against each other no more than they are in the system, and the first coefficient of
/// D, CB, CAB, … that is not 0; where zeros are a thousand times as far as any pole, the gain that
/// is right amid the poles.
///
/// @param system continuous or discrete
/// @param output, input which channel
/// @param readout of a discrete system; a continuous one has none
/// @throws ShapeError when there is no such channel
/// @throws DomainError when the system is not finite
/// Cost: about 60 states³.
template <LinearSystem System>
[[nodiscard]] auto zeros_poles_gain(const System& system, Index output = 0, Index input = 0,
                                    Readout readout = Readout::before) {
  return detail::roots_of_channel("zeros_poles_gain", system, output, input, readout);
}

/// The same of a transfer function: its polynomial_roots, and the ratio of its leading
/// coefficients.
/// @throws ShapeError, DomainError when there is no denominator, it is 0, or a coefficient is not
///   finite
template <class K>
[[nodiscard]] ZerosPolesGain<K> zeros_poles_gain(const TransferFunction<K>& transfer) {
  constexpr std::string_view function = "zeros_poles_gain";
  using Roots = typename ZerosPolesGain<K>::Roots;
  const auto [above, below] = detail::fraction_of(function, transfer);
  return {detail::to_eigen<Roots>(detail::roots_of(function, above)),
          detail::to_eigen<Roots>(detail::roots_of(function, below)),
          above.size() == 0 ? K(0) : static_cast<K>(above(0) / below(0))};
}

/// The poles of a transfer function: the roots of its denominator, none cancelled against zeros.
/// @return (degree), complex ones as neighbours of their conjugates where coefficients are real
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <class K>
[[nodiscard]] auto poles(const TransferFunction<K>& transfer) {
  return detail::to_eigen<typename ZerosPolesGain<K>::Roots>(
      detail::roots_of("poles", detail::fraction_of("poles", transfer).below));
}

/// The zeros of a transfer function: the roots of its numerator, none for 0.
/// @return (degree), as of poles
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <class K>
[[nodiscard]] auto zeros(const TransferFunction<K>& transfer) {
  return detail::to_eigen<typename ZerosPolesGain<K>::Roots>(
      detail::roots_of("zeros", detail::fraction_of("zeros", transfer).above));
}

/// G(0), what a constant input becomes in the end, of a transfer function in s; in z that is
/// transfer(1). Common factors s cancel; what grows is infinite, of the sign with which it does.
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <std::floating_point T>
[[nodiscard]] T dc_gain(const TransferFunction<T>& transfer) {
  const auto [above, below] = detail::fraction_of("dc_gain", transfer);
  const auto lowest = [](const auto& coefficients) {  // from the end, the first that is not 0
    Index power = 0;
    while (coefficients(coefficients.size() - 1 - power) == 0) ++power;
    return power;
  };
  if (above.size() == 0) return 0;
  const Index zeros = lowest(above), poles = lowest(below);
  if (zeros > poles) return 0;
  const double ratio = above(above.size() - 1 - zeros) / below(below.size() - 1 - poles);
  if (zeros == poles) return static_cast<T>(ratio);
  return std::copysign(std::numeric_limits<T>::infinity(), static_cast<T>(ratio));
}

/// The transfer function of given zeros, poles and gain; its denominator is monic.
/// @throws DomainError when the gain is real and a complex zero or pole lacks its conjugate, or one
///   is not finite
template <class K>
[[nodiscard]] TransferFunction<K> transfer_function(const ZerosPolesGain<K>& roots) {
  constexpr std::string_view function = "transfer_function";
  using Coefficients = typename TransferFunction<K>::Coefficients;
  detail::check_finite(function, roots);
  const auto gain = static_cast<detail::DoubleOf<K>>(roots.gain);
  return {detail::to_eigen<Coefficients>(detail::polynomial(function, "zeros", roots.zeros, gain)),
          detail::to_eigen<Coefficients>(
              detail::polynomial(function, "poles", roots.poles, detail::DoubleOf<K>(1)))};
}

/// The transfer function of one channel of a system, by way of its zeros and poles: that of
/// C (sI − A)⁻¹ B + D, or of C (zI − A_bar)⁻¹ B_bar + D, and z C (zI − A_bar)⁻¹ B_bar + D when read
/// by Readout::after.
/// @param system continuous or discrete
/// @param output, input, readout as for zeros_poles_gain
/// @throws ShapeError, DomainError as zeros_poles_gain does
template <LinearSystem System>
[[nodiscard]] auto transfer_function(const System& system, Index output = 0, Index input = 0,
                                     Readout readout = Readout::before) {
  return transfer_function(
      detail::roots_of_channel("transfer_function", system, output, input, readout));
}

namespace detail {

/// What state_space and discrete_state_space share, s or z.
template <class T>
StateSpace<T, Dynamic, 1, 1> companion_form(std::string_view function,
                                            const TransferFunction<T>& transfer) {
  const auto [b, a] = proper_fraction_of(function, transfer);
  const Index k = a.size() - 1;
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  Matrix A = Matrix::Zero(k, k), B = Matrix::Zero(k, 1), C(1, k);
  const double D = b.size() == k + 1 ? b(0) / a(0) : 0;
  for (Index j = 0; j < k; ++j) {  // of the power j
    if (j > 0) A(j - 1, j) = T(1);
    const Index from = b.size() - 1 - j;
    A(k - 1, j) = static_cast<T>(-a(k - j) / a(0));
    C(0, j) = static_cast<T>(((from >= 0 ? b(from) : 0) - a(k - j) * D) / a(0));
  }
  if (k > 0) B(k - 1, 0) = T(1);
  return {A, B, C, Eigen::Matrix<T, 1, 1>(static_cast<T>(D))};
}

/// Sections of one or two states in a row, s or z.
template <class T>
StateSpace<T, Dynamic, 1, 1> cascade_form(std::string_view function,
                                          const ZerosPolesGain<T>& roots) {
  if (roots.zeros.size() > roots.poles.size())
    throw_shape(function, "zeros", to_string(std::array<Index, 1>{roots.zeros.size()}),
                "at most as many as poles, (" + std::to_string(roots.poles.size()) + ")");
  check_finite(function, roots);
  const std::vector<RootList> poles = grouped_roots<T>(function, "poles", roots.poles);
  const std::vector<RootList> zeros = grouped_roots<T>(function, "zeros", roots.zeros);
  const Index n = roots.poles.size();
  RealMatrix A(n, n), B(n, 1), C(1, n);
  double D = static_cast<double>(roots.gain);
  Index at = 0;
  for (std::size_t i = 0; i < poles.size(); ++i) {
    const Section section(poles[i], i < zeros.size() ? zeros[i] : RootList{});
    const Index k = section.A.rows();
    A.set_block(at, at, section.A);
    A.set_block(at, 0, section.B * C.block(0, 0, 1, at));
    B.set_block(at, 0, D * section.B);
    for (Index j = 0; j < at; ++j) C(0, j) *= section.D;
    C.set_block(0, at, section.C);
    D *= section.D;
    at += k;
  }
  // The last section first: A is then upper triangular but for pairs, and shows its eigenvalues.
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> dynamics(n, n), input(n, 1), output(1, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) dynamics(i, j) = static_cast<T>(A(n - 1 - i, n - 1 - j));
    input(i, 0) = static_cast<T>(B(n - 1 - i, 0));
    output(0, i) = static_cast<T>(C(0, n - 1 - i));
  }
  return {dynamics, input, output, Eigen::Matrix<T, 1, 1>(static_cast<T>(D))};
}

/// The discrete system of these matrices.
template <class T>
DiscreteStateSpace<T, Dynamic, 1, 1> in_steps(const StateSpace<T, Dynamic, 1, 1>& matrices,
                                              T delta) {
  return {matrices.A(), matrices.B(), matrices.C(), matrices.D(), delta};
}

}  // namespace detail

/// The controllable companion form of a proper transfer function of order k,
/// (b_k s^k + … + b_0) / (a_k s^k + … + a_0):
///
///   A = [0 1 0 …; 0 0 1 …; …; −a_0/a_k … −a_{k−1}/a_k],  B = [0; …; 0; 1],
///   C_j = (b_j − a_j b_k / a_k) / a_k,  D = b_k / a_k   (Ogata, 5th ed., eqs. 9-3 and 9-4).
///
/// Ill-conditioned at high orders; state_space(transfer) is its balanced form.
/// @throws ShapeError when there is no denominator, or the numerator is of higher degree: improper
/// @throws DomainError when the denominator is 0 or a coefficient is not finite
template <std::floating_point T>
[[nodiscard]] StateSpace<T, Dynamic, 1, 1> controllable_companion(
    const TransferFunction<T>& transfer) {
  return detail::companion_form("controllable_companion", transfer);
}

/// The observable companion form, the transpose of controllable_companion: Aᵀ, Cᵀ, Bᵀ, D.
/// @throws ShapeError, DomainError as controllable_companion does
template <std::floating_point T>
[[nodiscard]] StateSpace<T, Dynamic, 1, 1> observable_companion(
    const TransferFunction<T>& transfer) {
  const auto dual = detail::companion_form("observable_companion", transfer);
  return {dual.A().transpose(), dual.C().transpose(), dual.B().transpose(), dual.D()};
}

/// A continuous system with this transfer function: its controllable companion form, balanced.
/// @throws ShapeError, DomainError as controllable_companion does
template <std::floating_point T>
[[nodiscard]] StateSpace<T, Dynamic, 1, 1> state_space(const TransferFunction<T>& transfer) {
  return balance_states(detail::companion_form("state_space", transfer));
}

/// A continuous system with these zeros, poles and gain: sections of one or two states in a row, so
/// that no polynomial is formed and the poles are those given to the last digit, stiff or not. A
/// zero far below the poles of its section costs digits of the response near it.
///
/// @throws ShapeError when there are more zeros than poles
/// @throws DomainError when a complex zero or pole lacks its conjugate, or one is not finite
/// Cost: states³.
template <std::floating_point T>
[[nodiscard]] StateSpace<T, Dynamic, 1, 1> state_space(const ZerosPolesGain<T>& roots) {
  return detail::cascade_form("state_space", roots);
}

/// A discrete system with this transfer function in z, read before the step:
/// C (zI − A_bar)⁻¹ B_bar + D is it. The balanced companion form, as of state_space.
///
/// @param transfer its transfer function, proper
/// @param delta Δ, s
/// @throws ShapeError, DomainError as controllable_companion does, and DomainError when Δ is not
///   positive and finite
template <std::floating_point T>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, 1, 1> discrete_state_space(
    const TransferFunction<T>& transfer, std::type_identity_t<T> delta) {
  return detail::in_steps(balance_states(detail::companion_form("discrete_state_space", transfer)),
                          delta);
}

/// A discrete system with these zeros, poles and gain in z, read before the step, in the sections
/// of state_space.
///
/// @param roots its zeros, poles and gain
/// @param delta Δ, s
/// @throws ShapeError, DomainError as state_space does, and DomainError when Δ is not positive and
///   finite
/// Cost: states³.
template <std::floating_point T>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, 1, 1> discrete_state_space(
    const ZerosPolesGain<T>& roots, std::type_identity_t<T> delta) {
  return detail::in_steps(detail::cascade_form("discrete_state_space", roots), delta);
}

}  // namespace ssm
