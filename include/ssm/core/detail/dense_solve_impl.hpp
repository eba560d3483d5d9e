#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"

SSM_BEGIN_COMPILED

#if defined(__AVX512F__)
inline constexpr Index tile_lanes = 8;
#elif defined(__AVX__)
inline constexpr Index tile_lanes = 4;
#else
inline constexpr Index tile_lanes = 2;
#endif
inline constexpr Index tile_rows = 2 * tile_lanes, tile_cols = 4, tile_depth = 256;

/// multiply_tiles of a tile of C of `vectors` times `lanes` rows, which stays in registers.
template <Index lanes, int vectors, int cols>
void multiply_tile(double* C, Index C_stride, bool add, double factor, const double* A,
                   Index A_stride, const double* B, Index B_down, Index B_across, Index depth) {
  // Unrolled by hand, as -O2 alone would keep the sums in memory.
  // Copied to and from memory: a reference to such a type forgets how memory is aligned.
  using Lanes [[gnu::vector_size(std::size_t(lanes) * sizeof(double))]] = double;
  Lanes sums[vectors][cols] = {};
  for (Index k = 0; k < depth; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Lanes a;
      std::memcpy(&a, A + k * A_stride + v * lanes, sizeof(a));
#pragma GCC unroll 8
      for (int j = 0; j < cols; ++j) sums[v][j] += a * B[j * B_across + k * B_down];
    }
#pragma GCC unroll 8
  for (int j = 0; j < cols; ++j)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      double* memory = C + j * C_stride + v * lanes;
      Lanes sum = {};
      if (add) std::memcpy(&sum, memory, sizeof(sum));
      sum += factor * sums[v][j];
      std::memcpy(memory, &sum, sizeof(sum));
    }
}

/// The rows of tiles of `lanes` or less, each half as many as the one before, so that what is left
/// of a matrix of any size is in vectors too.
template <Index lanes, int cols>
void multiply_rest(double* C, Index C_stride, Index rows, bool add, double factor, const double* A,
                   Index A_stride, const double* B, Index B_down, Index B_across, Index depth) {
  if (rows >= lanes) {
    multiply_tile<lanes, 1, cols>(C, C_stride, add, factor, A, A_stride, B, B_down, B_across,
                                  depth);
    C += lanes;
    A += lanes;
    rows -= lanes;
  }
  if constexpr (lanes > 1)
    if (rows > 0)
      multiply_rest<lanes / 2, cols>(C, C_stride, rows, add, factor, A, A_stride, B, B_down,
                                     B_across, depth);
}

template <int cols>
void multiply_columns(double* C, Index C_stride, Index rows, bool add, double factor,
                      const double* A, Index A_stride, const double* B, Index B_down,
                      Index B_across, Index depth) {
  constexpr Index last = 3 * tile_lanes;  // better three vectors at once than two and one
  for (; rows >= tile_rows && rows != last; rows -= tile_rows, C += tile_rows, A += tile_rows)
    multiply_tile<tile_lanes, 2, cols>(C, C_stride, add, factor, A, A_stride, B, B_down, B_across,
                                       depth);
  if (rows == last)
    multiply_tile<tile_lanes, 3, cols>(C, C_stride, add, factor, A, A_stride, B, B_down, B_across,
                                       depth);
  else if (rows > 0)
    multiply_rest<tile_lanes, cols>(C, C_stride, rows, add, factor, A, A_stride, B, B_down,
                                    B_across, depth);
}

SSM_INLINE void multiply_tiles(const Tile& C, bool add, double factor, const ConstTile& A,
                               const double* B, Index B_down, Index B_across) {
  for (Index k0 = 0; k0 < (std::max)(A.cols, Index(1)); k0 += tile_depth) {
    const Index depth = (std::min)(tile_depth, A.cols - k0);
    const double* a = A.data + k0 * A.stride;
    Index j = 0;
    const auto take = [&](auto columns) {
      multiply_columns<columns()>(C.data + j * C.stride, C.stride, C.rows, add || k0 > 0, factor, a,
                                  A.stride, B + j * B_across + k0 * B_down, B_down, B_across,
                                  depth);
      j += columns();
    };
    while (C.cols - j >= tile_cols) take(std::integral_constant<int, tile_cols>());
    if (C.cols - j >= 2) take(std::integral_constant<int, 2>());
    if (C.cols - j >= 1) take(std::integral_constant<int, 1>());
  }
}

SSM_INLINE void add_product(const Tile& C, double factor, const ConstTile& A, const ConstTile& B) {
  multiply_tiles(C, true, factor, A, B.data, 1, B.stride);
}

SSM_INLINE RealMatrix operator*(const RealMatrix& A, const RealMatrix& B) {
  RealMatrix C(A.rows(), B.cols());
  add_product({C.data(), C.rows(), C.cols(), C.rows()}, 1, {A.data(), A.rows(), A.cols(), A.rows()},
              {B.data(), B.rows(), B.cols(), B.rows()});
  return C;
}

/// Two real matrices for the parts of a complex one.
SSM_INLINE std::pair<RealMatrix, RealMatrix> parts_of(const ComplexMatrix& A) {
  std::pair<RealMatrix, RealMatrix> parts(RealMatrix(A.rows(), A.cols()),
                                          RealMatrix(A.rows(), A.cols()));
  for (Index i = 0; i < A.size(); ++i) {
    parts.first.data()[i] = A.data()[i].real();
    parts.second.data()[i] = A.data()[i].imag();
  }
  return parts;
}

SSM_INLINE ComplexMatrix operator*(const ComplexMatrix& A, const ComplexMatrix& B) {
  const auto [A_real, A_imag] = parts_of(A);
  const auto [B_real, B_imag] = parts_of(B);
  const RealMatrix real = A_real * B_real - A_imag * B_imag;
  const RealMatrix imag = A_real * B_imag + A_imag * B_real;
  ComplexMatrix C(A.rows(), B.cols());
  for (Index i = 0; i < C.size(); ++i) C.data()[i] = {real.data()[i], imag.data()[i]};
  return C;
}

/// y ← y − weight x, of `size` numbers that do not overlap.
SSM_INLINE void subtract_multiple(double* y, double weight, const double* x, Index size) {
  using Lanes [[gnu::vector_size(std::size_t(tile_lanes) * sizeof(double))]] = double;
  Index i = 0;
  for (; i + tile_lanes <= size; i += tile_lanes) {
    Lanes a, b;
    std::memcpy(&a, y + i, sizeof(a));
    std::memcpy(&b, x + i, sizeof(b));
    a -= weight * b;
    std::memcpy(y + i, &a, sizeof(a));
  }
  for (; i < size; ++i) y[i] -= weight * x[i];
}

SSM_INLINE void factor_lu(double* A, Index n, Index* pivots) {
  constexpr Index panel = 8;
  const auto lu = [&](Index i, Index j) -> double& { return A[j * n + i]; };
  for (Index from = 0; from < n; from += panel) {
    const Index to = (std::min)(from + panel, n);
    for (Index k = from; k < to; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < n; ++i)
        if (std::abs(lu(i, k)) > std::abs(lu(pivot, k))) pivot = i;
      pivots[k] = pivot;
      if (pivot != k)
        for (Index j = 0; j < n; ++j) std::swap(lu(k, j), lu(pivot, j));
      const double divisor = lu(k, k);
      if (divisor != 0)
        for (Index i = k + 1; i < n; ++i) lu(i, k) /= divisor;
      for (Index j = k + 1; j < to; ++j)
        subtract_multiple(&lu(k, j) + 1, lu(k, j), &lu(k, k) + 1, n - k - 1);
    }
    if (to == n) break;
    for (Index k = from; k < to; ++k)
      for (Index j = to; j < n; ++j)
        subtract_multiple(&lu(k, j) + 1, lu(k, j), &lu(k, k) + 1, to - k - 1);
    add_product({&lu(to, to), n - to, n - to, n}, -1, {&lu(to, from), n - to, to - from, n},
                {&lu(from, to), to - from, n - to, n});
  }
}

SSM_INLINE void solve_lu(const double* lu, Index n, const Index* pivots, double* B, Index cols) {
  if (cols == 0) return;
  constexpr Index panel = 8;
  for (Index k = 0; k < n; ++k)
    if (pivots[k] != k)
      for (Index j = 0; j < cols; ++j) std::swap(B[j * n + k], B[j * n + pivots[k]]);
  for (Index from = 0; from < n; from += panel) {
    const Index to = (std::min)(from + panel, n);
    for (Index k = from; k < to; ++k)  // columns within, as none waits for another
      for (Index j = 0; j < cols; ++j)
        subtract_multiple(B + j * n + k + 1, B[j * n + k], lu + k * n + k + 1, to - k - 1);
    add_product({B + to, n - to, cols, n}, -1, {lu + from * n + to, n - to, to - from, n},
                {B + from, to - from, cols, n});
  }
  for (Index to = n; to > 0;) {
    const Index from = (to - 1) / panel * panel;
    for (Index k = to; k-- > from;) {
      const double inverse = 1 / lu[k * n + k];
      for (Index j = 0; j < cols; ++j) {
        const double weight = B[j * n + k] *= inverse;
        subtract_multiple(B + j * n + from, weight, lu + k * n + from, k - from);
      }
    }
    add_product({B, from, cols, n}, -1, {lu + from * n, from, to - from, n},
                {B + from, to - from, cols, n});
    to = from;
  }
}

SSM_INLINE void DenseCholesky::factor() {
  const Index n = L_.rows();
  for (Index j = 0; j < n; ++j) {
    for (Index k = 0; k < j; ++k) {
      const double weight = L_(j, k);
      for (Index i = j; i < n; ++i) L_(i, j) -= L_(i, k) * weight;
    }
    if (!(L_(j, j) > 0)) {
      definite_ = false;
      return;
    }
    const double root = std::sqrt(L_(j, j));
    for (Index i = j; i < n; ++i) L_(i, j) /= root;
    for (Index i = 0; i < j; ++i) L_(i, j) = 0;
  }
}

SSM_INLINE RealMatrix solve_lower(const RealMatrix& L, RealMatrix B) {
  for (Index j = 0; j < B.cols(); ++j)
    for (Index k = 0; k < L.rows(); ++k) {
      const double weight = B(k, j) /= L(k, k);
      for (Index i = k + 1; i < L.rows(); ++i) B(i, j) -= L(i, k) * weight;
    }
  return B;
}

SSM_INLINE RealMatrix DenseCholesky::solve(RealMatrix B) const {
  B = solve_lower(L_, std::move(B));
  for (Index j = 0; j < B.cols(); ++j)
    for (Index k = L_.rows(); k-- > 0;) {
      double sum = B(k, j);
      for (Index i = k + 1; i < L_.rows(); ++i) sum -= L_(i, k) * B(i, j);
      B(k, j) = sum / L_(k, k);
    }
  return B;
}

SSM_END_COMPILED
