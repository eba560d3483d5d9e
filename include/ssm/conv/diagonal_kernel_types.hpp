#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// A diagonal model of every channel by itself, h' = Λ h + B u, y = 2 Re(C h): one mode of every
/// conjugate pair.
template <class T, class Space = Host>
struct DiagonalKernelInputs {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const T, 1, Space> delta;                 ///< Δ (channels), s
  View<const std::complex<T>, 2, Space> B;       ///< (channels, state/2), optional: 1 when absent
  View<const std::complex<T>, 2, Space> C;       ///< (channels, state/2)
};

namespace detail {

template <class T, class Space>
void check_diagonal_kernel(std::string_view name, const DiagonalKernelInputs<T, Space>& in,
                           const std::type_identity_t<View<const T, 2, Space>>& K,
                           std::string_view kernel) {
  const Index channels = in.lambda.extent(0), modes = in.lambda.extent(1);
  check_shape(name, "delta", in.delta, std::array<Index, 1>{channels});
  check_optional_shape(name, "B", in.B, std::array<Index, 2>{channels, modes});
  check_shape(name, "C", in.C, std::array<Index, 2>{channels, modes});
  check_shape(name, kernel, K, std::array<Index, 2>{channels, K.extent(1)});
}

}  // namespace detail
}  // namespace ssm
