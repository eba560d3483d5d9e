#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/error.hpp"

SSM_BEGIN_COMPILED

using RootList = std::vector<std::complex<double>>;

/// Conjugate pairs, then reals two by two, then the one left over, of the roots of a real
/// polynomial as rounding has left them: relative to `tolerance`, pairs may be unequal, and a root
/// without a partner may have an imaginary part, which is dropped.
/// @throws DomainError for a root that is neither real nor one of a pair
[[nodiscard]] std::vector<RootList> group_roots(std::string_view function,
                                                std::string_view argument, const RootList& roots,
                                                double tolerance);

SSM_END_COMPILED

namespace ssm::detail {

/// What the rounding of a computation in T may have done to a conjugate.
template <class T>
inline constexpr double conjugate_tolerance = 1000 * epsilon_of<T>;

template <class T, class Vector>
std::vector<RootList> grouped_roots(std::string_view function, std::string_view argument,
                                    const Vector& roots) {
  RootList wide;
  for (Index i = 0; i < roots.size(); ++i) wide.emplace_back(roots(i));
  return group_roots(function, argument, wide, conjugate_tolerance<T>);
}

/// The coefficients of leading · Π (s − root), highest power first.
template <class Vector>
RealVector polynomial(std::string_view function, std::string_view argument, const Vector& roots,
                      double leading) {
  using T = typename Vector::Scalar::value_type;
  RealVector coefficients(roots.size() + 1);
  coefficients(0) = leading;
  Index degree = 0;
  for (const RootList& group : grouped_roots<T>(function, argument, roots)) {
    const bool two = group.size() == 2;
    const std::complex<double> second = two ? group[1] : 0.0;
    const double sum = (group[0] + second).real();
    const double product = two ? (group[0] * second).real() : 0;
    degree += two ? 2 : 1;
    for (Index k = degree; k > 0; --k)
      coefficients(k) += (k > 1 ? product * coefficients(k - 2) : 0) - sum * coefficients(k - 1);
  }
  return coefficients;
}

/// The same of roots of any kind.
template <class Vector>
ComplexVector polynomial(std::string_view, std::string_view, const Vector& roots,
                         std::complex<double> leading) {
  ComplexVector coefficients(roots.size() + 1);
  coefficients(0) = leading;
  for (Index i = 0; i < roots.size(); ++i)
    for (Index k = i + 1; k > 0; --k)
      coefficients(k) -= product_of(std::complex<double>(roots(i)), coefficients(k - 1));
  return coefficients;
}

}  // namespace ssm::detail

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/root_groups_impl.hpp"
#endif
