#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>

#include "ssm/core/tensor.hpp"

namespace ssm::test {

/// The largest distance of `gradient` from central differences of `loss()` by each element of `at`,
/// relative to the largest element. The differences are of fourth order: for a loss near 1
/// rounding leaves them about 1e-12 off.
template <class Loss, class AnyTensor>
double gradient_error(Loss&& loss, AnyTensor& at, const AnyTensor& gradient, double floor = 1e-3) {
  if (at.extents() != gradient.extents()) return std::numeric_limits<double>::infinity();
  double scale = floor, error = 0;
  for (Index i = 0; i < at.size(); ++i) {
    double& x = at.data()[i];
    const double before = x, h = 2e-4;
    const auto shifted = [&](double by) {
      x = before + by;
      const double value = loss();
      x = before;
      return value;
    };
    const double slope =
        (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h);
    const double distance = std::abs(slope - gradient.data()[i]);
    if (!(distance <= std::numeric_limits<double>::max()))
      return std::numeric_limits<double>::infinity();
    scale = std::max(scale, std::abs(slope));
    error = std::max(error, distance);
  }
  return error / scale;
}

/// The same for complex elements, whose gradient is ∂/∂Re + i ∂/∂Im.
template <class Loss, std::size_t Rank>
double gradient_error(Loss&& loss, Tensor<std::complex<double>, Rank>& at,
                      const Tensor<std::complex<double>, Rank>& gradient, double floor = 1e-3) {
  if (at.extents() != gradient.extents()) return std::numeric_limits<double>::infinity();
  Tensor<double, 2> x({at.size(), 2}), slopes({at.size(), 2});
  const auto store = [&] {
    for (Index i = 0; i < at.size(); ++i) at.data()[i] = {x(i, 0), x(i, 1)};
  };
  for (Index i = 0; i < at.size(); ++i) {
    x(i, 0) = at.data()[i].real();
    x(i, 1) = at.data()[i].imag();
    slopes(i, 0) = gradient.data()[i].real();
    slopes(i, 1) = gradient.data()[i].imag();
  }
  const double error = gradient_error(
      [&] {
        store();
        return loss();
      },
      x, slopes, floor);
  store();
  return error;
}

/// Σ a b over all elements: a loss whose gradient by `a` is `b`.
template <class AnyTensor>
double dot(const AnyTensor& a, const AnyTensor& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a.data()[i] * b.data()[i];
  return sum;
}

}  // namespace ssm::test
