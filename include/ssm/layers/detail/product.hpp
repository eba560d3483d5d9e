#pragma once

#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/linear_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The type of the large matrices of a layer: what it names `Matrix`, else a tensor.
template <class Layer>
struct LargeMatrix {
  using type = ssm::TensorIn<typename Layer::value_type, 2, typename Layer::space>;
};
template <class Layer>
requires requires { typename Layer::Matrices; }
struct LargeMatrix<Layer> {
  using type = typename Layer::Matrices;
};
template <class Layer>
using MatrixOf = typename LargeMatrix<Layer>::type;

/// How a matrix of a layer is seen by the product that reads it.
template <class Matrix>
using MatrixView = decltype(std::declval<const Matrix&>().view());

/// What `linear` reads: x and a matrix of any kind, and perhaps a bias.
template <class T, class Space, class Matrix>
[[nodiscard]] LinearInputs<T, Space, MatrixView<Matrix>> product(
    const View<const T, 2, Space>& x, const Matrix& matrix,
    const View<const T, 1, Space>& bias = {}) {
  return {x, matrix.view(), bias};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
