#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// G(s) = Σ_j numerator(j) s^j / Σ_j denominator(j) s^j, from one input to one output. The lowest
/// power stands first, as in companion. In discrete time s is z.
template <std::floating_point T>
struct TransferFunction {
  Eigen::Matrix<T, Eigen::Dynamic, 1> numerator;    ///< (its degree + 1), lowest power first
  Eigen::Matrix<T, Eigen::Dynamic, 1> denominator;  ///< (its degree + 1), lowest power first

  /// G(s).
  [[nodiscard]] std::complex<T> operator()(std::complex<T> s) const {
    const auto value = [&](const auto& coefficients) {
      std::complex<T> sum = 0;
      for (Index j = coefficients.size() - 1; j >= 0; --j) sum = sum * s + coefficients(j);
      return sum;
    };
    return value(numerator) / value(denominator);
  }
};

/// G(s) = gain · Π (s − zeros(i)) / Π (s − poles(i)), from one input to one output; complex ones
/// come in conjugate pairs. In discrete time s is z.
template <std::floating_point T>
struct ZerosPolesGain {
  /// Complex numbers, in any order.
  using Roots = Eigen::Matrix<std::complex<T>, Eigen::Dynamic, 1>;
  Roots zeros;  ///< in any order
  Roots poles;  ///< in any order
  T gain;       ///< what Π (s − zeros) / Π (s − poles) is multiplied by

  /// G(s).
  [[nodiscard]] std::complex<T> operator()(std::complex<T> s) const {
    std::complex<T> value = gain;
    for (Index i = 0; i < (std::max)(zeros.size(), poles.size()); ++i) {
      if (i < zeros.size()) value *= s - zeros(i);
      if (i < poles.size()) value /= s - poles(i);
    }
    return value;
  }
};

namespace detail {

template <class T>
void check_finite(std::string_view function, const TransferFunction<T>& transfer) {
  if (!transfer.numerator.allFinite()) throw_domain(function, "numerator", "not finite", "finite");
  if (!transfer.denominator.allFinite())
    throw_domain(function, "denominator", "not finite", "finite");
}

template <class T>
void check_finite(std::string_view function, const ZerosPolesGain<T>& roots) {
  if (!roots.zeros.allFinite()) throw_domain(function, "zeros", "not finite", "finite");
  if (!roots.poles.allFinite()) throw_domain(function, "poles", "not finite", "finite");
  if (!std::isfinite(roots.gain)) throw_domain(function, "gain", "not finite", "finite");
}

using Roots = std::vector<std::complex<double>>;

/// Conjugate pairs, then reals two by two, then the one left over.
template <class Vector>
std::vector<Roots> grouped_roots(std::string_view function, std::string_view argument,
                                 const Vector& roots) {
  Roots real, complex;
  for (Index i = 0; i < roots.size(); ++i) {
    const std::complex<double> root(roots(i));
    (root.imag() == 0 ? real : complex).push_back(root);
  }
  std::vector<Roots> groups;
  while (!complex.empty()) {
    const std::complex<double> root = complex.back();
    complex.pop_back();
    const auto partner = std::find(complex.begin(), complex.end(), std::conj(root));
    if (partner == complex.end())
      throw_domain(function, argument, "without the conjugate of one", "conjugate pairs");
    complex.erase(partner);
    groups.push_back({root, std::conj(root)});
  }
  std::sort(real.begin(), real.end(),
            [](const auto& a, const auto& b) { return a.real() < b.real(); });
  for (std::size_t i = 0; i < real.size(); i += 2)
    groups.emplace_back(real.begin() + static_cast<std::ptrdiff_t>(i),
                        real.begin() + static_cast<std::ptrdiff_t>((std::min)(i + 2, real.size())));
  return groups;
}

/// The coefficients of leading · Π (s − root), lowest power first.
template <class Vector>
RealVector polynomial(std::string_view function, std::string_view argument, const Vector& roots,
                      double leading) {
  RealVector coefficients(roots.size() + 1);
  coefficients(0) = leading;
  Index degree = 0;
  for (const Roots& group : grouped_roots(function, argument, roots)) {
    const bool two = group.size() == 2;
    const std::complex<double> second = two ? group[1] : 0.0;
    const double sum = (group[0] + second).real();
    const double product = two ? (group[0] * second).real() : 0;
    degree += two ? 2 : 1;
    for (Index k = degree; k >= 0; --k) {
      const auto old = [&](Index power) { return power >= 0 ? coefficients(power) : 0; };
      coefficients(k) =
          two ? old(k - 2) - sum * old(k - 1) + product * old(k) : old(k - 1) - sum * old(k);
    }
  }
  return coefficients;
}

/// Π (s − zeros) / Π (s − poles) of one or two poles, as a system.
struct Section {
  RealMatrix A, B, C;
  double D;

  Section(const Roots& poles, const Roots& zeros)
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

/// The zeros, poles and gain of one channel of a system: its transmission zeros and poles,
/// cancelled against each other no more than they are in the system, and the first coefficient of
/// D, CB, CAB, … that is not 0.
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
  using T = typename System::Scalar;
  constexpr std::string_view function = "zeros_poles_gain";
  if (output < 0 || output >= system.outputs() || input < 0 || input >= system.inputs())
    detail::throw_shape(
        function, "the channel", detail::to_string(std::array<Index, 2>{output, input}),
        "below " + detail::to_string(std::array<Index, 2>{system.outputs(), system.inputs()}));
  using Roots = typename ZerosPolesGain<T>::Roots;
  const Index states = system.states();
  detail::Quadruple channel(system, readout);
  channel.B = channel.B.block(0, input, states, 1);
  channel.C = channel.C.block(output, 0, 1, states);
  channel.D = channel.D.block(output, input, 1, 1);
  const detail::ComplexVector zeros = detail::zeros_of<Eigen::MatrixXd>(function, channel);
  const detail::ComplexVector poles = detail::eigenvalues_of(function, channel.A);
  double gain = channel.D(0, 0);
  if (zeros.size() < states) {
    detail::RealMatrix reached = channel.B;
    for (Index i = zeros.size() + 1; i < states; ++i) reached = channel.A * reached;
    gain = (channel.C * reached)(0, 0);
  }
  return ZerosPolesGain<T>{detail::to_eigen<Roots>(zeros), detail::to_eigen<Roots>(poles),
                           static_cast<T>(gain)};
}

/// The same of a transfer function, whose roots are eigenvalues of companion matrices.
/// @throws DomainError when the denominator is 0, or a coefficient is not finite
template <std::floating_point T>
[[nodiscard]] ZerosPolesGain<T> zeros_poles_gain(const TransferFunction<T>& transfer) {
  constexpr std::string_view function = "zeros_poles_gain";
  detail::check_finite(function, transfer);
  const auto degree = [](const auto& coefficients) {
    Index size = coefficients.size();
    while (size > 0 && coefficients(size - 1) == T(0)) --size;
    return size - 1;
  };
  const auto roots = [&](const auto& coefficients, Index n) {
    detail::RealMatrix A((std::max<Index>)(n, 0), (std::max<Index>)(n, 0));
    for (Index j = 0; j < n; ++j) {
      if (j > 0) A(j - 1, j) = 1;
      A(n - 1, j) = -static_cast<double>(coefficients(j)) / static_cast<double>(coefficients(n));
    }
    return detail::to_eigen<typename ZerosPolesGain<T>::Roots>(detail::eigenvalues_of(function, A));
  };
  const Index above = degree(transfer.numerator), below = degree(transfer.denominator);
  if (below < 0) detail::throw_domain(function, "denominator", "0", "not 0");
  const T gain = above < 0 ? T(0) : transfer.numerator(above) / transfer.denominator(below);
  return {roots(transfer.numerator, above), roots(transfer.denominator, below), gain};
}

/// The transfer function of given zeros, poles and gain; its denominator is monic.
/// @throws DomainError when a complex zero or pole lacks its exact conjugate, or one is not finite
template <std::floating_point T>
[[nodiscard]] TransferFunction<T> transfer_function(const ZerosPolesGain<T>& roots) {
  constexpr std::string_view function = "transfer_function";
  detail::check_finite(function, roots);
  using Coefficients = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  return {detail::to_eigen<Coefficients>(
              detail::polynomial(function, "zeros", roots.zeros, static_cast<double>(roots.gain))),
          detail::to_eigen<Coefficients>(detail::polynomial(function, "poles", roots.poles, 1.0))};
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
  return transfer_function(zeros_poles_gain(system, output, input, readout));
}

namespace detail {

/// What state_space and discrete_state_space share, s or z.
template <class T>
StateSpace<T, Dynamic, 1, 1> companion_form(std::string_view function,
                                            const TransferFunction<T>& transfer) {
  const auto &a = transfer.denominator, &b = transfer.numerator;
  const Index k = a.size() - 1;
  if (k < 0) throw_shape(function, "denominator", "(0)", "one coefficient or more");
  if (b.size() > k + 1)
    throw_shape(function, "numerator", to_string(std::array<Index, 1>{b.size()}),
                "at most the size of the denominator, (" + std::to_string(k + 1) + ")");
  check_finite(function, transfer);
  if (a(k) == T(0)) throw_domain(function, "leading coefficient of the denominator", "0", "not 0");
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  Matrix A = Matrix::Zero(k, k), B = Matrix::Zero(k, 1), C(1, k);
  const T D = b.size() == k + 1 ? b(k) / a(k) : T(0);
  for (Index j = 0; j < k; ++j) {
    if (j > 0) A(j - 1, j) = T(1);
    A(k - 1, j) = -a(j) / a(k);
    C(0, j) = ((j < b.size() ? b(j) : T(0)) - a(j) * D) / a(k);
  }
  if (k > 0) B(k - 1, 0) = T(1);
  return {A, B, C, Eigen::Matrix<T, 1, 1>(D)};
}

/// Sections of one or two states in a row, s or z.
template <class T>
StateSpace<T, Dynamic, 1, 1> cascade_form(std::string_view function,
                                          const ZerosPolesGain<T>& roots) {
  if (roots.zeros.size() > roots.poles.size())
    throw_shape(function, "zeros", to_string(std::array<Index, 1>{roots.zeros.size()}),
                "at most as many as poles, (" + std::to_string(roots.poles.size()) + ")");
  check_finite(function, roots);
  const std::vector<Roots> poles = grouped_roots(function, "poles", roots.poles);
  const std::vector<Roots> zeros = grouped_roots(function, "zeros", roots.zeros);
  const Index n = roots.poles.size();
  RealMatrix A(n, n), B(n, 1), C(1, n);
  double D = static_cast<double>(roots.gain);
  Index at = 0;
  for (std::size_t i = 0; i < poles.size(); ++i) {
    const Section section(poles[i], i < zeros.size() ? zeros[i] : Roots{});
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

/// The controllable companion form of a proper transfer function of order k, denominator
/// a_0 … a_k, numerator b_0 … b_k:
///
///   A = [0 1 0 …; 0 0 1 …; …; −a_0/a_k … −a_{k−1}/a_k],  B = [0; …; 0; 1],
///   C_j = (b_j − a_j b_k / a_k) / a_k,  D = b_k / a_k   (Ogata, 5th ed., eqs. 9-3 and 9-4).
///
/// Ill-conditioned at high orders; state_space(transfer) is its balanced form.
/// @throws ShapeError when the numerator has more coefficients than the denominator, or that none
/// @throws DomainError when a_k = 0 or a coefficient is not finite
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
/// @throws DomainError when a complex zero or pole lacks its exact conjugate, or one is not finite
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
