#pragma once

#include <algorithm>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/phi.hpp"

SSM_BEGIN_COMPILED

/// The roots of a polynomial, highest power first, without leading zeros; those of real
/// ones are real or neighbours of their conjugates.
/// @throws DomainError when a coefficient or a root is not finite, ConvergenceError
[[nodiscard]] ComplexVector roots_of(std::string_view function, const RealVector& coefficients);
/// The same of complex coefficients.
[[nodiscard]] ComplexVector roots_of(std::string_view function, const ComplexVector& coefficients);

SSM_END_COMPILED

namespace ssm {
namespace detail {

/// A scalar in double, real or complex.
template <class K>
using DoubleOf = std::conditional_t<std::is_same_v<K, Real<K>>, double, std::complex<double>>;

/// The coefficients in double, less the zeros before the first that is not 0; none for 0.
template <class Vector>
auto trimmed(const Vector& coefficients) {
  using K = std::remove_cvref_t<decltype(coefficients(0))>;
  Index zeros = 0;
  while (zeros < coefficients.size() && coefficients(zeros) == K(0)) ++zeros;
  DenseVector<DoubleOf<K>> result(coefficients.size() - zeros);
  for (Index i = 0; i < result.size(); ++i)
    result(i) = static_cast<DoubleOf<K>>(coefficients(zeros + i));
  return result;
}

/// p q.
template <class K>
DenseVector<K> polynomial_product(const DenseVector<K>& p, const DenseVector<K>& q) {
  if (p.size() == 0 || q.size() == 0) return {};
  DenseVector<K> product(p.size() + q.size() - 1);
  for (Index i = 0; i < p.size(); ++i)
    for (Index j = 0; j < q.size(); ++j) product(i + j) += product_of(p(i), q(j));
  return product;
}

/// p + q.
template <class K>
DenseVector<K> polynomial_sum(const DenseVector<K>& p, const DenseVector<K>& q) {
  const Index size = (std::max)(p.size(), q.size());
  DenseVector<K> sum(size);
  for (Index i = 0; i < p.size(); ++i) sum(size - p.size() + i) += p(i);
  for (Index i = 0; i < q.size(); ++i) sum(size - q.size() + i) += q(i);
  return sum;
}

/// p′.
template <class K>
DenseVector<K> polynomial_derivative(const DenseVector<K>& p) {
  if (p.size() < 2) return {};
  DenseVector<K> derivative(p.size() - 1);
  for (Index i = 0; i < derivative.size(); ++i)
    derivative(i) = static_cast<double>(derivative.size() - i) * p(i);
  return derivative;
}

/// p(s) / q(s) of polynomials without leading zeros, in powers of 1/s where those of s would
/// overflow.
template <class K>
std::complex<double> ratio_at(const DenseVector<K>& p, const DenseVector<K>& q,
                              std::complex<double> s) {
  const bool outside = std::abs(s) > 1;
  const std::complex<double> x = outside ? 1.0 / s : s;
  const auto value = [&](const DenseVector<K>& coefficients) {
    std::complex<double> sum = 0;
    for (Index j = 0; j < coefficients.size(); ++j)
      sum = product_of(sum, x) + coefficients(outside ? coefficients.size() - 1 - j : j);
    return sum;
  };
  std::complex<double> ratio = value(p) / value(q);
  if (outside && p.size() > 0)
    ratio *= std::pow(s, static_cast<int>(p.size()) - static_cast<int>(q.size()));
  return ratio;
}

}  // namespace detail

/// The roots of p(s) = Σ_j coefficients(j) s^(n − j), each as often as it counts.
///
/// Real coefficients: the eigenvalues of balanced companion matrices, one for each group of roots
/// of like size, complex ones as neighbours of their exact conjugates. Complex coefficients, and
/// real ones where an eigenvalue is no root to rounding: the simultaneous iteration of Ehrlich
/// (1967) and Aberth (1973), started on the circles of Bini (1996). A root of multiplicity k is
/// known to the k-th root of epsilon. Computed in double for float as well.
///
/// @param coefficients (n + 1), highest power first, real or complex; leading zeros are trimmed
/// @return (n), of the polynomial 0 and of a constant (0)
/// @throws DomainError when a coefficient is not finite, or a root beyond what double holds
/// @throws ConvergenceError
/// Cost: about 10 n³, of complex coefficients 100 n².
template <class Derived>
[[nodiscard]] auto polynomial_roots(const Eigen::MatrixBase<Derived>& coefficients) {
  using K = typename Derived::Scalar;
  EIGEN_STATIC_ASSERT_VECTOR_ONLY(Derived);
  return detail::to_eigen<Eigen::Matrix<std::complex<Real<K>>, Eigen::Dynamic, 1>>(
      detail::roots_of("polynomial_roots", detail::trimmed(coefficients)));
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/polynomial_impl.hpp"
#endif
