#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Scratch memory of one thread for the sums over powers of modes from which kernels are made. It
/// grows to the largest call.
template <class T>
struct VandermondeScratch {
  Tensor<T, 1> narrow;     ///< tables and pieces in the type of the kernel
  Tensor<double, 1> wide;  ///< powers of the nodes
  Tensor<T, 1> row;        ///< a sequence of one channel, for the caller
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// c (rows, cols) = a (rows, inner) b (inner, cols), row-major without gaps; cols is a multiple of
/// product_cols<T>. A block of c stays in registers over the whole of the inner extent.
inline constexpr int product_rows = 6;
inline constexpr int product_vectors = vector_registers >= 32 ? 4 : 2;
template <class T>
inline constexpr Index product_cols = product_vectors* lanes<T>;

template <class T>
void row_block_product(const T* a, const T* b, T* c, Index inner, Index cols) noexcept {
  constexpr int R = product_rows, V = product_vectors;
  for (Index column = 0; column < cols; column += product_cols<T>) {
    std::array<std::array<Vec<T>, V>, R> sum;
    unroll<R>([&](auto r) { unroll<V>([&](auto v) { sum[r][v] = Vec<T>(T(0)); }); });
    const T* row = b + column;
    for (Index k = 0; k < inner; ++k, row += cols) {
      std::array<Vec<T>, V> right;
      unroll<V>([&](auto v) { right[v] = Vec<T>::load(row + v * lanes<T>); });
      unroll<R>([&](auto r) {
        const Vec<T> left(a[r * inner + k]);
        unroll<V>([&](auto v) { sum[r][v] = fma(left, right[v], sum[r][v]); });
      });
    }
    unroll<R>([&](auto r) {
      unroll<V>([&](auto v) { sum[r][v].store(c + r * cols + column + v * lanes<T>); });
    });
  }
}

/// Sums over the powers of complex nodes z_n, n < modes, up to a length:
///
///   expand  K_l = 2 Re Σ_n v_n z_n^l,
///   gather  s_n = Σ_l g_l z_n^l  and  s′_n = Σ_l l g_l z_n^{l−1}, its derivative.
///
/// With l = i M + j both are real matrix products of tables of z^{iM} and z^j: 4 flops for every
/// pair of n and l, and 2 √length powers of each node. Powers are taken in double.
template <class T>
class Vandermonde {
 public:
  Vandermonde(Index modes, Index length) : modes_(modes), length_(length) {
    const auto wanted = static_cast<std::uint64_t>((std::max<Index>)(1, length / 128));
    cols_ = std::clamp<Index>(static_cast<Index>(std::bit_ceil(wanted)), product_cols<T>, 256);
    rows_ = (length + cols_ - 1) / cols_;
    width_ = (4 * modes + product_cols<T> - 1) / product_cols<T> * product_cols<T>;
  }

  /// @param z, v (modes)
  /// @param K (length), written
  void expand(const std::complex<double>* z, const std::complex<double>* v, const View<T, 1>& K,
              VandermondeScratch<T>& scratch) const {
    constexpr Index R = product_rows;
    T* powers = reserve(scratch.narrow, 2 * modes_ * cols_ + R * (2 * modes_ + cols_));
    T* left = powers + 2 * modes_ * cols_;
    T* block = left + R * 2 * modes_;
    double* u_re = reserve(scratch.wide, 2 * cols_ + 4 * modes_);
    double *u_im = u_re + modes_, *step_re = u_im + modes_, *step_im = step_re + modes_;
    double* row = step_im + modes_;
    for (Index n = 0; n < modes_; ++n) {
      const std::complex<double> step = fill_powers(z[n], row);
      std::copy_n(row, cols_, powers + n * cols_);
      std::copy_n(row + cols_, cols_, powers + (modes_ + n) * cols_);
      step_re[n] = step.real();
      step_im[n] = step.imag();
      u_re[n] = 2 * v[n].real();
      u_im[n] = 2 * v[n].imag();
    }
    for (Index i = 0; i < rows_; i += R) {
      for (Index r = 0; r < R; ++r) {
        T* to = left + r * 2 * modes_;
        for (Index n = 0; n < modes_; ++n) to[n] = static_cast<T>(u_re[n]);
        for (Index n = 0; n < modes_; ++n) to[modes_ + n] = static_cast<T>(-u_im[n]);
        multiply(u_re, u_im, step_re, step_im);
      }
      row_block_product(left, powers, block, 2 * modes_, cols_);
      const Index begin = i * cols_, count = (std::min)(R * cols_, length_ - begin);
      if (K.stride(0) == 1)
        std::copy_n(block, count, K.data() + begin);
      else
        for (Index l = 0; l < count; ++l) K(begin + l) = block[l];
    }
  }

  /// @param z (modes)
  /// @param g (length)
  /// @param sum, derivative s and s′ (modes), written
  void gather(const std::complex<double>* z, const View<const T, 1>& g, std::complex<double>* sum,
              std::complex<double>* derivative, VandermondeScratch<T>& scratch) const {
    constexpr Index R = product_rows;
    T* powers = reserve(scratch.narrow, width_ * cols_ + R * (cols_ + width_));
    T* left = powers + width_ * cols_;
    T* block = left + R * cols_;
    // z^{iM} and z^{iM − 1}, and the node or its M-th power
    double* a_re = reserve(scratch.wide, 6 * modes_);
    double *a_im = a_re + modes_, *b_re = a_im + modes_, *b_im = b_re + modes_;
    double *step_re = b_im + modes_, *step_im = step_re + modes_;
    for (Index n = 0; n < modes_; ++n) {
      step_re[n] = z[n].real();
      step_im[n] = z[n].imag();
      a_re[n] = 1;
      a_im[n] = b_re[n] = b_im[n] = 0;
      sum[n] = derivative[n] = 0;
    }
    for (Index j = 0; j < cols_; ++j) {
      T* row = powers + j * width_;
      std::fill_n(row + 4 * modes_, width_ - 4 * modes_, T(0));
      const auto order = static_cast<double>(j);
      for (Index n = 0; n < modes_; ++n) {
        row[n] = static_cast<T>(a_re[n]);
        row[modes_ + n] = static_cast<T>(a_im[n]);
        row[2 * modes_ + n] = static_cast<T>(order * b_re[n]);
        row[3 * modes_ + n] = static_cast<T>(order * b_im[n]);
        b_re[n] = a_re[n];
        b_im[n] = a_im[n];
      }
      multiply(a_re, a_im, step_re, step_im);
    }
    std::copy_n(a_re, 2 * modes_, step_re);
    std::fill_n(a_re, modes_, 1.0);
    std::fill_n(a_im, modes_, 0.0);  // b = z^{M−1} serves i = 1
    for (Index i = 0; i < rows_; i += R) {
      const Index begin = i * cols_, count = (std::min)(R * cols_, length_ - begin);
      for (Index l = 0; l < count; ++l) left[l] = g(begin + l);
      std::fill_n(left + count, R * cols_ - count, T(0));
      row_block_product(left, powers, block, cols_, width_);
      for (Index r = 0; r < R; ++r) {
        const T* s = block + r * width_;
        const auto offset = static_cast<double>((i + r) * cols_);
        for (Index n = 0; n < modes_; ++n) {
          const std::complex<double> at(a_re[n], a_im[n]), before(b_re[n], b_im[n]);
          const std::complex<double> s0(s[n], s[modes_ + n]);
          const std::complex<double> s1(s[2 * modes_ + n], s[3 * modes_ + n]);
          sum[n] += at * s0;
          derivative[n] += at * s1;
          if (i + r > 0) derivative[n] += offset * before * s0;
        }
        multiply(a_re, a_im, step_re, step_im);
        if (i + r > 0) multiply(b_re, b_im, step_re, step_im);
      }
    }
  }

 private:
  template <class U>
  static U* reserve(Tensor<U, 1>& tensor, Index size) {
    if (tensor.size() < size) tensor.resize({size});
    return tensor.data();
  }

  void multiply(double* __restrict__ re, double* __restrict__ im, const double* __restrict__ by_re,
                const double* __restrict__ by_im) const noexcept {
    for (Index n = 0; n < modes_; ++n) {
      const double real = re[n] * by_re[n] - im[n] * by_im[n];
      im[n] = re[n] * by_im[n] + im[n] * by_re[n];
      re[n] = real;
    }
  }

  /// z^0 … z^{M−1}, a vector by its steps and the rest by doubling, real parts before imaginary
  /// parts. Returns z^M.
  std::complex<double> fill_powers(std::complex<double> z, double* re) const noexcept {
    using Wide = Vec<double>;
    constexpr Index W = lanes<double>;
    double* im = re + cols_;
    double p_re = 1, p_im = 0;
    const auto step = [](double& a_re, double& a_im, double b_re, double b_im) {
      const double real = a_re * b_re - a_im * b_im;
      a_im = a_re * b_im + a_im * b_re;
      a_re = real;
    };
    for (Index j = 0; j < W; ++j, step(p_re, p_im, z.real(), z.imag())) {
      re[j] = p_re;
      im[j] = p_im;
    }
    for (Index m = W; m < cols_; m *= 2, step(p_re, p_im, double(p_re), double(p_im))) {
      const Wide by_re(p_re), by_im(p_im);
      for (Index j = 0; j < m; j += W) {
        const Wide a_re = Wide::load(re + j), a_im = Wide::load(im + j);
        fma(a_re, by_re, -(a_im * by_im)).store(re + m + j);
        fma(a_re, by_im, a_im * by_re).store(im + m + j);
      }
    }
    return {p_re, p_im};
  }

  Index modes_, length_;
  Index cols_, rows_;  // M, and how many runs of M there are
  Index width_;        // 4 modes, padded
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
}  // namespace ssm
