#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/detail/lyapunov_impl.hpp"
#include "ssm/system/gramian.hpp"

SSM_BEGIN_COMPILED

/// Divides a matrix by the power of two that makes its largest element about 1.
/// @return the exponent
SSM_INLINE int take_exponent(RealMatrix& matrix) {
  double largest = 0;
  for (Index i = 0; i < matrix.size(); ++i)
    largest = (std::max)(largest, std::abs(matrix.data()[i]));
  if (!(largest > 0 && std::isfinite(largest))) return 0;
  const int exponent = std::ilogb(largest);
  for (Index i = 0; i < matrix.size(); ++i)
    matrix.data()[i] = std::ldexp(matrix.data()[i], -exponent);
  return exponent;
}

/// Multiplies by a power of two.
SSM_INLINE RealMatrix times_power(RealMatrix matrix, int exponent) {
  for (Index i = 0; i < matrix.size(); ++i)
    matrix.data()[i] = std::ldexp(matrix.data()[i], exponent);
  return matrix;
}

/// The upper triangular U for which X = U U* solves T X + X T* + B B* = 0 or T X T* − X + B B* = 0,
/// T upper triangular and stable, last column first, without ever forming B B*: Hammarling (1982),
/// in the form of Sorensen & Zhou (2003), section 4.
SSM_INLINE ComplexMatrix hammarling(Time time, const ComplexMatrix& T, ComplexMatrix B) {
  using Complex = std::complex<double>;
  const Index n = T.rows(), inputs = B.cols();
  const bool continuous = time == Time::continuous;
  ComplexMatrix U(n, n);
  ComplexVector b(inputs), along(n), above(n), change(n);
  for (Index j = n; j-- > 0;) {
    double size = 0;
    for (Index i = 0; i < inputs; ++i) size += std::norm(B(j, i));
    size = std::sqrt(size);
    if (!(size > 0)) continue;
    const Complex lambda = T(j, j);
    const double modulus = std::abs(lambda);
    const double decay =
        continuous ? std::sqrt(-2 * lambda.real()) : std::sqrt((1 - modulus) * (1 + modulus));
    const double tau = size / decay;
    U(j, j) = tau;
    for (Index i = 0; i < inputs; ++i) b(i) = B(j, i) / size;
    for (Index k = 0; k < j; ++k) {
      along(k) = 0;
      for (Index i = 0; i < inputs; ++i) along(k) += product_of(B(k, i), std::conj(b(i)));
      above(k) = T(k, j) * tau;
      U(k, j) = continuous ? -above(k) - along(k) * decay
                           : product_of(above(k), std::conj(lambda)) + along(k) * decay;
    }
    // u of the rows above, in the direction of b
    const Complex factor = continuous ? Complex(1) : -std::conj(lambda);
    const Complex shift = continuous ? std::conj(lambda) : Complex(1);
    for (Index k = j; k-- > 0;) {
      const Complex u = U(k, j) /= product_of(factor, T(k, k)) + shift;
      const Complex weight = product_of(factor, u);
      for (Index i = 0; i < k; ++i) U(i, j) -= product_of(T(i, k), weight);
    }
    for (Index k = 0; k < j; ++k) {
      if (continuous) {
        change(k) = -decay * U(k, j);
        continue;
      }
      Complex sum = above(k);
      for (Index i = k; i < j; ++i) sum += product_of(T(k, i), U(i, j));
      change(k) = decay * sum - product_of(lambda + 1.0, along(k));
    }
    for (Index i = 0; i < inputs; ++i)
      for (Index k = 0; k < j; ++k) B(k, i) += product_of(change(k), b(i));
  }
  return U;
}

/// A real L with L Lᵀ = Re W W*, which is W W* where that is real.
SSM_INLINE RealMatrix real_factor(const ComplexMatrix& W) {
  const Index n = W.rows();
  RealMatrix stacked(2 * n, n);  // X = Re W Re Wᵀ + Im W Im Wᵀ
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) {
      stacked(i, j) = W(j, i).real();
      stacked(n + i, j) = W(j, i).imag();
    }
  RealMatrix nothing(2 * n, 0);
  triangularize(stacked, nothing);
  return stacked.block(0, 0, n, n).transpose();
}

/// The factor of X, A X + X Aᵀ + B Bᵀ = 0 or A X Aᵀ − X + B Bᵀ = 0, of the balanced A and a B in
/// its units; of Aᵀ instead of A where `dual`.
SSM_INLINE RealMatrix factor_in_schur_form(Time time, const SchurForm& schur, const RealMatrix& B,
                                           bool dual) {
  const Index n = B.rows();
  ComplexMatrix turned = adjoint(schur.U()) * to_complex(B);
  if (!dual) return real_factor(schur.U() * hammarling(time, schur.T(), std::move(turned)));
  ComplexMatrix T(n, n), backward(n, B.cols()), W(n, n);  // T* is upper triangular from behind
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i <= j; ++i) T(i, j) = std::conj(schur.T()(n - 1 - j, n - 1 - i));
  for (Index j = 0; j < B.cols(); ++j)
    for (Index i = 0; i < n; ++i) backward(i, j) = turned(n - 1 - i, j);
  const ComplexMatrix L = hammarling(time, T, std::move(backward));
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) W(i, j) = L(n - 1 - i, j);
  return real_factor(schur.U() * W);
}

SSM_INLINE SchurForm stable_schur_form(std::string_view function, Time time, const RealMatrix& A) {
  SchurForm schur(function, A);
  if (!schur.stable(time)) throw_domain(function, "the system", "unstable", "stable");
  return schur;
}

SSM_INLINE RealMatrix gramian_factor(std::string_view function, Time time, const RealMatrix& A,
                                     const RealMatrix& B) {
  if (A.rows() == 0) return A;
  if (!B.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  const SchurForm schur = stable_schur_form(function, time, A);
  RealMatrix scaled = scale_rows(inverse_of(schur.scale()), B);
  const int exponent = take_exponent(scaled);
  return scale_rows(schur.scale(),
                    times_power(factor_in_schur_form(time, schur, scaled, false), exponent));
}

SSM_INLINE RealMatrix gramian_of(std::string_view function, Time time, const RealMatrix& A,
                                 const RealMatrix& B) {
  if (A.rows() == 0) return A;
  if (!B.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  const SchurForm schur = stable_schur_form(function, time, A);
  RealMatrix scaled = scale_rows(inverse_of(schur.scale()), B);
  const int exponent = take_exponent(scaled);
  const RealMatrix L = factor_in_schur_form(time, schur, scaled, false);
  // A residual has the small elements' digits, which rotations in units of A's mix with others.
  RealMatrix W = L * L.transpose();
  W += solve_in_schur_form(
      time, schur, lyapunov_residual(time, schur.balanced(), W, scaled * scaled.transpose()));
  const RealVector units = schur.scale();
  return times_power(
      times_power(scale_columns(scale_rows(units, symmetric_part(W)), units), exponent), exponent);
}

SSM_INLINE Balancing balancing_of(std::string_view function, Time time, const Quadruple& system) {
  const Index n = system.A.rows();
  if (!system.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  if (n == 0) return {};
  const SchurForm schur = stable_schur_form(function, time, system.A);
  const RealVector inverse = inverse_of(schur.scale());
  // B and C of size 1 but for a power of four between them, whose root is exact
  RealMatrix B = scale_rows(inverse, system.B);
  RealMatrix C_transposed = scale_rows(schur.scale(), system.C.transpose());
  const int of_inputs = take_exponent(B);
  int of_outputs = take_exponent(C_transposed);
  if ((of_inputs - of_outputs) % 2 != 0) {
    --of_outputs;
    C_transposed *= 2;
  }
  const RealMatrix L = factor_in_schur_form(time, schur, B, false);
  const RealMatrix M = factor_in_schur_form(time, schur, C_transposed, true);
  const SingularValues svd = singular_values(M.transpose() * L);
  Balancing result{svd.sigma, RealMatrix(n, n), RealMatrix(n, n), 0};
  // How far rounding moves σ: |u|ᵀ |M|ᵀ |L| |v| ε, W = U σ.
  const RealMatrix sizes = moduli_of(M.transpose()) * (moduli_of(L) * moduli_of(svd.V));
  const double rounding = static_cast<double>(n) * epsilon_of<double>;
  for (Index k = 0; k < n; ++k) {
    const double sigma = svd.sigma(k);
    double error = 0;
    for (Index i = 0; i < n; ++i) error += std::abs(svd.W(i, k)) * sizes(i, k);
    if (!(sigma > 0) || !(sigma * sigma > rounding * error)) break;
    ++result.order;
  }
  RealVector root(n), root_cubed(n);  // σ^(−1/2) and σ^(−3/2)
  for (Index i = 0; i < result.order; ++i) {
    root(i) = 1 / std::sqrt(svd.sigma(i));
    root_cubed(i) = root(i) / svd.sigma(i);
  }
  const int half = (of_inputs - of_outputs) / 2;
  result.to = times_power(scale_rows(schur.scale(), scale_columns(L * svd.V, root)), half);
  result.from = times_power(
      scale_columns(scale_rows(root_cubed, svd.W.transpose() * M.transpose()), inverse), -half);
  for (Index k = 0; k < n; ++k)
    result.sigma(k) = std::ldexp(result.sigma(k), of_inputs + of_outputs);
  return result;
}

SSM_END_COMPILED
