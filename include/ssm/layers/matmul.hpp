#pragma once

#include <algorithm>
#include <cassert>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// dst (m, n) ← or += lhs (m, k) · rhs (k, n), on the calling thread.
///
/// This calls Eigen's blocked product below the layer that distributes it: an Eigen expression
/// would start threads of its own outside an OpenMP region and block the product by their number,
/// and so make the last bits of a result depend on it. Each factor is row- or column-major as its
/// strides say; dst is row-major.
template <class T>
void multiply_piece(const View<const T, 2>& lhs, const View<const T, 2>& rhs, const View<T, 2>& dst,
                    Write write) {
  using Eigen::ColMajor;
  using Eigen::RowMajor;
  const Eigen::Index m = dst.extent(0), n = dst.extent(1), k = lhs.extent(1);
  assert(lhs.extent(0) == m && rhs.extent(0) == k && rhs.extent(1) == n);
  if (write == Write::overwrite)
    for (Index i = 0; i < m; ++i) array(dst.data() + i * dst.stride(0), n).setZero();
  if (m == 0 || n == 0 || k == 0) return;

  Eigen::internal::gemm_blocking_space<RowMajor, T, T, Eigen::Dynamic, Eigen::Dynamic,
                                       Eigen::Dynamic>
      blocking(m, n, k, 1, true);
  const auto run = [&]<int lhs_order, int rhs_order>() {
    Eigen::internal::general_matrix_matrix_product<
        Eigen::Index, T, lhs_order, false, T, rhs_order, false, RowMajor,
        1>::run(m, n, k, lhs.data(), lhs.stride(lhs_order == RowMajor ? 0 : 1), rhs.data(),
                rhs.stride(rhs_order == RowMajor ? 0 : 1), dst.data(), 1, dst.stride(0), T(1),
                blocking, nullptr);
  };
  const bool lhs_rows = lhs.stride(1) == 1, rhs_rows = rhs.stride(1) == 1;
  assert(lhs_rows || lhs.stride(0) == 1);
  assert(rhs_rows || rhs.stride(0) == 1);
  if (lhs_rows && rhs_rows) run.template operator()<RowMajor, RowMajor>();
  if (lhs_rows && !rhs_rows) run.template operator()<RowMajor, ColMajor>();
  if (!lhs_rows && rhs_rows) run.template operator()<ColMajor, RowMajor>();
  if (!lhs_rows && !rhs_rows) run.template operator()<ColMajor, ColMajor>();
}

template <class T>
[[nodiscard]] View<T, 2> transposed(const View<T, 2>& view) noexcept {
  return {view.data(), {view.extent(1), view.extent(0)}, {view.stride(1), view.stride(0)}};
}

/// dst (m, n) ← or += lhs (m, k) · rhs (k, n), the rows or else the columns of dst cut into pieces.
template <class T>
void multiply(const Cpu& backend, const View<const T, 2>& lhs, const View<const T, 2>& rhs,
              const View<T, 2>& dst, Write write) {
  if (dst.size() == 0 || lhs.extent(1) == 0) return multiply_piece<T>(lhs, rhs, dst, write);
  // Products of this kind reach some fifty multiply-adds a nanosecond.
  const Cpu threads = for_work(
      backend, 0.02 * static_cast<double>(dst.size()) * static_cast<double>(lhs.extent(1)));
  constexpr Index least = 192;  // below this, packing the other factor again costs too much
  const Pieces rows(dst.extent(0), least);
  const Pieces columns(dst.extent(1), least);
  if (rows.pieces >= columns.pieces) {
    parallel_for(threads, rows.pieces, [&](Index i) {
      multiply_piece<T>(lhs.slice(0, rows.begin(i), rows.size(i)), rhs,
                        dst.slice(0, rows.begin(i), rows.size(i)), write);
    });
  } else {
    parallel_for(threads, columns.pieces, [&](Index i) {
      multiply_piece<T>(lhs, rhs.slice(1, columns.begin(i), columns.size(i)),
                        dst.slice(1, columns.begin(i), columns.size(i)), write);
    });
  }
}

/// dst (m, n) ← or += lhs (m, k) · rhs (k, n) for k far above m and n, as a weight's gradient is:
/// k, and the rows of a dst that is not small, are cut into pieces; those of k are summed in order.
template <class T>
void multiply_deep(const Cpu& backend, const View<const T, 2>& lhs, const View<const T, 2>& rhs,
                   const View<T, 2>& dst, Write write, Tensor<T, 1>& partials) {
  const Index m = dst.extent(0), n = dst.extent(1);
  const Pieces rows(m, 128, 4);
  const Pieces depth(lhs.extent(1), 512, 16 / rows.pieces);
  if (depth.pieces == 1) return multiply<T>(backend, lhs, rhs, dst, write);
  partials.resize({(std::max)(partials.size(), depth.pieces * m * n)});
  parallel_for(backend, depth.pieces * rows.pieces, [&](Index task) {
    const Index d = task / rows.pieces, r = task % rows.pieces;
    multiply_piece<T>(
        lhs.slice(0, rows.begin(r), rows.size(r)).slice(1, depth.begin(d), depth.size(d)),
        rhs.slice(0, depth.begin(d), depth.size(d)),
        View<T, 2>(partials.data() + (d * m + rows.begin(r)) * n, {rows.size(r), n}),
        Write::overwrite);
  });
  const Pieces sums(m, 8);
  parallel_for(for_elements(backend, depth.pieces * m * n), sums.pieces, [&](Index piece) {
    for (Index i = sums.begin(piece); i < sums.end(piece); ++i) {
      auto sum = array(dst.data() + i * dst.stride(0), n);
      if (write == Write::overwrite) sum.setZero();
      for (Index d = 0; d < depth.pieces; ++d)
        sum += array(static_cast<const T*>(partials.data()) + (d * m + i) * n, n);
    }
  });
}

/// y (n) ← or += matrix (n, k) · x (k) for a row-major matrix: allocates nothing, starts no thread.
template <class T>
void multiply_vector(const View<const T, 2>& matrix, const T* x, T* y, Write write) noexcept {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  const Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>> weight(
      matrix.data(), matrix.extent(0), matrix.extent(1), Eigen::OuterStride<>(matrix.stride(0)));
  const Eigen::Map<const Vector> input(x, matrix.extent(1));
  Eigen::Map<Vector> output(y, matrix.extent(0));
  if (write == Write::overwrite) output.setZero();
  output.noalias() += weight * input;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
