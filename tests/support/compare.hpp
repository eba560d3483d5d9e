#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ssm/core/tensor.hpp"

namespace ssm::test {

/// The larger of two errors, NaN if either is.
inline double worse(double a, double b) { return b <= a || std::isnan(a) ? a : b; }

/// max |got − want| / max(|want|, floor), infinite for a NaN or for shapes that differ.
template <class G, class W>
double relative_error(const G& got, const W& want, double floor = 1e-30) {
  if (got.extents() != want.extents()) return std::numeric_limits<double>::infinity();
  double scale = floor, error = 0;
  const auto* w = want.data();
  const auto* g = got.data();
  for (Index i = 0; i < want.size(); ++i)
    scale = std::max(scale, static_cast<double>(std::abs(w[i])));
  for (Index i = 0; i < want.size(); ++i) {
    using Wide = std::conditional_t<std::is_arithmetic_v<std::remove_cvref_t<decltype(w[i])>>,
                                    double, std::complex<double>>;
    const double distance = std::abs(Wide(g[i]) - Wide(w[i]));
    if (!(distance <= std::numeric_limits<double>::max()))
      return std::numeric_limits<double>::infinity();
    error = std::max(error, distance);
  }
  return error / scale;
}

/// True when two tensors have the same shape and the same bits.
template <class T, std::size_t Rank>
bool same_bits(const Tensor<T, Rank>& a, const Tensor<T, Rank>& b) {
  return a.extents() == b.extents() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

}  // namespace ssm::test
