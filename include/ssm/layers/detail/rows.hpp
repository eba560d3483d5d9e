#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A run of contiguous elements as an Eigen array, the form in which layers write
/// simple elementwise passes: every operation on it is vectorised.
template <class T>
[[nodiscard]] auto array(T* data, Index count) noexcept {
  using Array = Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const Array, Array>>(data, count);
}

/// Calls body(i, n) for each vector of [0, count): its first element and its lanes in use.
template <class T, class Body>
[[gnu::always_inline]] inline void for_each_vector(Index count, Body&& body) {
  Index i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>) body(i, lanes<T>);
  if (i < count) body(i, count - i);
}

/// (batch, length, channels) as (batch · length, channels): the rows of a sequence view must be
/// evenly spaced, and elements of a row adjacent. Throws ShapeError otherwise.
template <class T, class Space>
[[nodiscard]] View<T, 2, Space> merge_rows(std::string_view function, std::string_view argument,
                                           const View<T, 3, Space>& view) {
  const Index batch = view.extent(0), length = view.extent(1), channels = view.extent(2);
  const Index row = length > 1 ? view.stride(1) : view.stride(0);
  if ((batch > 1 && length > 1 && view.stride(0) != length * view.stride(1)) ||
      (channels > 1 && view.stride(2) != 1))
    throw_shape(function, argument, "strided as " + to_string(view.strides()),
                "evenly spaced rows of adjacent elements");
  return {view.data(), {batch * length, channels}, {row, 1}};
}

/// Calls body(row, column, count) for each vector of the rows of a matrix.
template <class T, class Body>
void for_row_vectors(const Cpu& backend, Index rows, Index width, const Body& body) {
  const Pieces pieces(rows, 16);
  parallel_for(for_elements(backend, rows * width), pieces.pieces, [&](Index piece) {
    for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r)
      for_each_vector<T>(width, [&](Index i, Index n) { body(r, i, n); });
  });
}

template <class T>
[[nodiscard]] T* at(const View<T, 2>& view, Index row, Index column) noexcept {
  return view.data() + row * view.stride(0) + column;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
