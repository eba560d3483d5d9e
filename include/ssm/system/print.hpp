#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/print.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

namespace ssm {
namespace detail {

/// "name = [ … ]", a line a row, in columns.
template <class Derived>
void print_matrix(std::ostream& stream, const std::string& name,
                  const Eigen::MatrixBase<Derived>& matrix) {
  if (matrix.size() == 0) {
    stream << name << " = " << to_string(std::array<Index, 2>{matrix.rows(), matrix.cols()})
           << " without elements\n";
    return;
  }
  std::vector<std::string> texts;
  std::vector<std::size_t> widths(static_cast<std::size_t>(matrix.cols()), 0);
  for (Index i = 0; i < matrix.rows(); ++i)
    for (Index j = 0; j < matrix.cols(); ++j) {
      texts.push_back(number_text(stream, matrix(i, j)));
      std::size_t& width = widths[static_cast<std::size_t>(j)];
      width = (std::max)(width, texts.back().size());
    }
  std::size_t at = 0;
  for (Index i = 0; i < matrix.rows(); ++i) {
    stream << (i == 0 ? name + " = [" : std::string(name.size() + 3, ' ') + "[");
    for (const std::size_t width : widths) {
      stream << ' ' << std::string(width - texts[at].size(), ' ') << texts[at];
      ++at;
    }
    stream << " ]\n";
  }
}

/// A polynomial as it is written by hand, the highest power first: "s^2 + 2 s + 1", a complex
/// coefficient in brackets.
template <class Vector>
std::string polynomial_text(const std::ostream& like, const Vector& coefficients,
                            char variable = 's') {
  using K = typename Vector::Scalar;
  std::string text;
  for (Index i = 0; i < coefficients.size(); ++i) {
    const K value = coefficients(i);
    const Index power = coefficients.size() - 1 - i;
    if (value == K(0)) continue;
    const bool negative = std::imag(value) == 0 && std::real(value) < 0;
    text += text.empty() ? (negative ? "-" : "") : (negative ? " - " : " + ");
    if (std::imag(value) != 0) {
      const auto imaginary = std::imag(value);
      text += "(" + number_text(like, std::real(value)) + (imaginary < 0 ? " - " : " + ") +
              number_text(like, std::abs(imaginary)) + "i)" + (power > 0 ? " " : "");
    } else if (std::abs(value) != 1 || power == 0) {
      text += number_text(like, std::abs(value)) + (power > 0 ? " " : "");
    }
    if (power > 0) text += variable;
    if (power > 1) text += "^" + std::to_string(power);
  }
  return text.empty() ? "0" : text;
}

/// Two lines, one over the other with a bar between.
inline void print_fraction(std::ostream& stream, const std::string& above,
                           const std::string& below) {
  const std::size_t width = (std::max)(above.size(), below.size());
  stream << std::string((width - above.size()) / 2, ' ') << above << '\n'
         << std::string(width, '-') << '\n'
         << std::string((width - below.size()) / 2, ' ') << below << '\n';
}

/// gain and roots as "(s + 1) (s - 2)".
template <class Roots>
std::string factors_text(const std::ostream& like, const Roots& roots, char variable = 's') {
  std::string text;
  for (Index i = 0; i < roots.size(); ++i) {
    const auto real = std::real(roots(i)), imaginary = std::imag(roots(i));
    if (!text.empty()) text += ' ';
    if (real == 0 && imaginary == 0) {
      text += variable;
      continue;
    }
    text += '(';
    text += variable;
    if (real != 0) text += (real < 0 ? " + " : " - ") + number_text(like, std::abs(real));
    if (imaginary != 0)
      text += (imaginary < 0 ? " + " : " - ") + number_text(like, std::abs(imaginary)) + "i";
    text += ')';
  }
  return text.empty() ? "1" : text;
}

template <class T>
void print_transfer(std::ostream& stream, const TransferFunction<T>& transfer, char variable) {
  print_fraction(stream, polynomial_text(stream, transfer.numerator, variable),
                 polynomial_text(stream, transfer.denominator, variable));
}

template <class T>
void print_transfer(std::ostream& stream, const ZerosPolesGain<T>& roots, char variable) {
  std::string above = factors_text(stream, roots.zeros, variable);
  if (roots.gain != T(1)) {
    const Eigen::Matrix<T, 1, 1> gain(roots.gain);
    above = polynomial_text(stream, gain) + (above == "1" ? "" : " " + above);
  }
  print_fraction(stream, above, factors_text(stream, roots.poles, variable));
}

/// What in_z prints.
template <class Transfer>
struct PrintedInZ {
  Transfer transfer;
};

template <class Transfer>
std::ostream& operator<<(std::ostream& stream, const PrintedInZ<Transfer>& printed) {
  print_transfer(stream, printed.transfer, 'z');
  return stream;
}

}  // namespace detail

/// A transfer function, or zeros, poles and gain, of discrete time, to be printed with z where s
/// would stand: `stream << in_z(transfer)`.
/// @param transfer it
template <class Transfer>
[[nodiscard]] detail::PrintedInZ<Transfer> in_z(const Transfer& transfer) {
  return {transfer};
}

/// The matrices of a continuous system, one below the other, in columns.
/// @return the stream
template <class T, int N, int M, int P>
std::ostream& operator<<(std::ostream& stream, const StateSpace<T, N, M, P>& system) {
  detail::print_matrix(stream, "A", system.A());
  detail::print_matrix(stream, "B", system.B());
  detail::print_matrix(stream, "C", system.C());
  detail::print_matrix(stream, "D", system.D());
  return stream;
}

/// The matrices of a sampled system, one below the other, in columns, and its step.
/// @return the stream
template <class T, int N, int M, int P>
std::ostream& operator<<(std::ostream& stream, const DiscreteStateSpace<T, N, M, P>& system) {
  detail::print_matrix(stream, "A_bar", system.A_bar());
  detail::print_matrix(stream, "B_bar", system.B_bar());
  detail::print_matrix(stream, "C", system.C());
  detail::print_matrix(stream, "D", system.D());
  return stream << "delta = " << detail::number_text(stream, system.delta()) << " s\n";
}

/// A transfer function as a fraction of polynomials in s, the highest power first.
/// @return the stream
template <class T>
std::ostream& operator<<(std::ostream& stream, const TransferFunction<T>& transfer) {
  detail::print_transfer(stream, transfer, 's');
  return stream;
}

/// A gain times a fraction of factors (s − root).
/// @return the stream
template <class T>
std::ostream& operator<<(std::ostream& stream, const ZerosPolesGain<T>& roots) {
  detail::print_transfer(stream, roots, 's');
  return stream;
}

}  // namespace ssm
