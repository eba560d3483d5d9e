#pragma once

#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

namespace detail {
template <class T>
using EigenMatrix = std::conditional_t<
    std::is_const_v<T>,
    const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
}  // namespace detail

/// An Eigen map with any strides over the elements of a rank-2 view.
template <class T>
[[nodiscard]] auto as_eigen(const View<T, 2>& view) {
  using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  return Eigen::Map<detail::EigenMatrix<T>, Eigen::Unaligned, Stride>(
      view.data(), view.extent(0), view.extent(1), Stride(view.stride(0), view.stride(1)));
}

/// An Eigen column vector over the elements of a rank-1 view.
template <class T>
[[nodiscard]] auto as_eigen(const View<T, 1>& view) {
  using Vector = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, 1>;
  using Mapped = std::conditional_t<std::is_const_v<T>, const Vector, Vector>;
  using Stride = Eigen::InnerStride<Eigen::Dynamic>;
  return Eigen::Map<Mapped, Eigen::Unaligned, Stride>(view.data(), view.extent(0),
                                                      Stride(view.stride(0)));
}

namespace detail {
template <class T, class Derived>
auto view_of(T* data, const Derived& matrix) {
  if constexpr (Derived::IsVectorAtCompileTime)
    return View<T, 1>(data, {matrix.size()}, {matrix.innerStride()});
  else
    return View<T, 2>(data, {matrix.rows(), matrix.cols()},
                      {matrix.rowStride(), matrix.colStride()});
}
}  // namespace detail

/// A view of the elements of an Eigen object that owns or maps memory; rows are the first extent.
/// A matrix type of one row or one column gives a view of rank 1, every other a view of rank 2.
template <class Derived>
requires((Eigen::internal::traits<Derived>::Flags & Eigen::DirectAccessBit) != 0)
    [[nodiscard]] auto as_view(Eigen::DenseBase<Derived>& matrix) {
  return detail::view_of(matrix.derived().data(), matrix.derived());
}

/// A read-only view of the elements of an Eigen object that owns or maps memory; rows are the first
/// extent. A matrix type of one row or one column gives a view of rank 1, every other a view of
/// rank 2.
template <class Derived>
requires((Eigen::internal::traits<Derived>::Flags & Eigen::DirectAccessBit) != 0)
    [[nodiscard]] auto as_view(const Eigen::DenseBase<Derived>& matrix) {
  return detail::view_of(matrix.derived().data(), matrix.derived());
}

}  // namespace ssm
