#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/view.hpp"

/// Complex numbers are stored as pairs of real ones, which files and products of matrices know.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// (…, 2) without gaps as complex numbers.
template <class T, std::size_t Rank, class Space>
[[nodiscard]] auto as_complex(const View<T, Rank, Space>& view) noexcept {
  using K = std::complex<std::remove_const_t<T>>;
  using Complex = std::conditional_t<std::is_const_v<T>, const K, K>;
  std::array<Index, Rank - 1> extents;
  for (std::size_t i = 0; i + 1 < Rank; ++i) extents[i] = view.extent(i);
  return View<Complex, Rank - 1, Space>(reinterpret_cast<Complex*>(view.data()), extents);
}

/// Complex numbers without gaps as rows of real ones, twice as many as the last extent has.
template <class K, std::size_t Rank, class Space>
[[nodiscard]] auto as_real_rows(const View<K, Rank, Space>& x) noexcept {
  using T = Real<std::remove_const_t<K>>;
  using Part = std::conditional_t<std::is_const_v<K>, const T, T>;
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < Rank; ++i) rows *= x.extent(i);
  return View<Part, 2, Space>(reinterpret_cast<Part*>(x.data()), {rows, 2 * x.extent(Rank - 1)});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
