#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstddef>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/mode_slopes.hpp"
#include "ssm/scan/detail/small_product.hpp"
#include "ssm/scan/selective_scan_types.hpp"

/// A diagonal time-invariant system over chunks of `chunk` steps, as matrices.
///
/// With u the inputs of a chunk, x the state that enters it and x′ the one that leaves it,
///
///   y = kernel u + output x,  x′ = ā^chunk x + input u,
///
/// where a complex state counts as two real ones, all real parts before all imaginary parts. The
/// tables are made in double: only their rounded entries meet the data.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The sizes of a chunked system of `modes` states.
template <class T, class K>
struct ChunkShape {
  static constexpr Index chunk = product_block_cols<T>;
  static constexpr bool is_complex = !std::is_same_v<K, Real<K>>;
  static constexpr Index parts = is_complex ? 2 : 1;

  Index modes;

  [[nodiscard]] Index state() const noexcept { return parts * modes; }
  /// Real states with padding, whose entries in every table are zero.
  [[nodiscard]] Index padded() const noexcept { return (state() + chunk - 1) / chunk * chunk; }
  /// A row of data: a chunk of a sequence, then a state.
  [[nodiscard]] Index row() const noexcept { return chunk + padded(); }
};

/// One system: x_t = ā x_{t−1} + g B u_t, y_t = s Re(C x_t) + D u_t, in double. Arrays are (modes).
struct ChunkSystem {
  double *a_re, *a_im, *g_re, *g_im, *B_re, *B_im, *C_re, *C_im;
  double D;

  /// Numbers of a system of `modes`, `at` where they lie.
  static Index size(Index modes) noexcept { return 8 * modes; }
  static ChunkSystem place(double* at, Index modes) noexcept {
    return {at,
            at + modes,
            at + 2 * modes,
            at + 3 * modes,
            at + 4 * modes,
            at + 5 * modes,
            at + 6 * modes,
            at + 7 * modes,
            0};
  }
};

/// The tables of one system, in the type of the data.
template <class T, class K>
struct ChunkTables {
  using Shape = ChunkShape<T, K>;
  static constexpr Index L = Shape::chunk;

  T* input;           ///< (chunk, padded)
  T* output;          ///< (row, chunk): kernel, then output
  T* step;            ///< (parts, modes): ā^chunk
  T* output_adjoint;  ///< (chunk, padded): output, transposed
  T* adjoint;         ///< (row, chunk): kernel and input, transposed

  static Index size(const Shape& s, bool gradients) noexcept {
    const Index one = L * (s.padded() + s.row());
    return (gradients ? 2 : 1) * one + s.padded();
  }
  static ChunkTables place(T* at, const Shape& s) noexcept {
    T* const output = at + L * s.padded();
    T* const step = output + L * s.row();
    T* const output_adjoint = step + s.padded();
    return {at, output, step, output_adjoint, output_adjoint + L * s.padded()};
  }
};

/// ā^j for j = 0 … chunk, (chunk + 1, modes) each.
template <class T, class K>
void fill_powers(const ChunkSystem& m, Index modes, double* re, double* im) noexcept {
  std::fill_n(re, modes, 1.0);
  std::fill_n(im, modes, 0.0);
  for (Index j = 0; j < ChunkShape<T, K>::chunk; ++j, re += modes, im += modes)
    for (Index n = 0; n < modes; ++n) {
      re[modes + n] = re[n] * m.a_re[n] - im[n] * m.a_im[n];
      im[modes + n] = re[n] * m.a_im[n] + im[n] * m.a_re[n];
    }
}

/// Numbers of scratch that fill_tables and gather_tables need.
template <class T, class K>
[[nodiscard]] Index table_scratch(Index modes) noexcept {
  return 2 * (ChunkShape<T, K>::chunk + 3) * modes;
}

/// Σ a b over `count` numbers, lane by lane and then over the lanes.
inline double dot(Index count, const double* a, const double* b) noexcept {
  constexpr Index W = lanes<double>;
  Vec<double> sums(0.0);
  Index n = 0;
  for (; n + W <= count; n += W)
    sums = fma(Vec<double>::load(a + n), Vec<double>::load(b + n), sums);
  double total = sum(sums);
  for (; n < count; ++n) total += a[n] * b[n];
  return total;
}

/// Fills the tables, those of the gradients if asked for.
template <class T, class K>
void fill_tables(const ChunkSystem& m, const ChunkShape<T, K>& shape, bool gradients, double* wide,
                 const ChunkTables<T, K>& to) noexcept {
  using Shape = ChunkShape<T, K>;
  constexpr Index L = Shape::chunk;
  constexpr double s = static_cast<double>(output_scale<K>);
  const Index N = shape.modes, padded = shape.padded();
  double *re = wide, *im = re + (L + 1) * N, *b_re = im + (L + 1) * N, *b_im = b_re + N;
  double *v_re = b_im + N, *v_im = v_re + N;  // s C B̄
  fill_powers<T, K>(m, N, re, im);
  for (Index n = 0; n < N; ++n) {
    b_re[n] = m.g_re[n] * m.B_re[n] - m.g_im[n] * m.B_im[n];
    b_im[n] = m.g_re[n] * m.B_im[n] + m.g_im[n] * m.B_re[n];
    v_re[n] = s * (m.C_re[n] * b_re[n] - m.C_im[n] * b_im[n]);
    v_im[n] = s * (m.C_re[n] * b_im[n] + m.C_im[n] * b_re[n]);
  }
  std::fill_n(to.input, ChunkTables<T, K>::size(shape, gradients), T(0));
  for (Index j = 0; j < L; ++j) {
    const double *p_re = re + (L - 1 - j) * N, *p_im = im + (L - 1 - j) * N;
    T* row = to.input + j * padded;
    for (Index n = 0; n < N; ++n) {
      row[n] = static_cast<T>(b_re[n] * p_re[n] - b_im[n] * p_im[n]);
      if constexpr (Shape::is_complex)
        row[N + n] = static_cast<T>(b_re[n] * p_im[n] + b_im[n] * p_re[n]);
    }
  }
  T* const output = to.output + L * L;
  std::array<T, static_cast<std::size_t>(L)> taps;
  for (Index j = 0; j < L; ++j) {
    const double *p_re = re + j * N, *p_im = im + j * N;
    const double *q_re = p_re + N, *q_im = p_im + N;
    for (Index n = 0; n < N; ++n) {
      output[n * L + j] = static_cast<T>(s * (m.C_re[n] * q_re[n] - m.C_im[n] * q_im[n]));
      if constexpr (Shape::is_complex)
        output[(N + n) * L + j] = static_cast<T>(-s * (m.C_re[n] * q_im[n] + m.C_im[n] * q_re[n]));
    }
    const double tap = dot(N, v_re, p_re) - dot(N, v_im, p_im);
    taps[static_cast<std::size_t>(j)] = static_cast<T>(j == 0 ? tap + m.D : tap);
  }
  for (Index i = 0; i < L; ++i) std::copy_n(taps.data(), L - i, to.output + i * L + i);
  for (Index n = 0; n < N; ++n) {
    to.step[n] = static_cast<T>(re[L * N + n]);
    if constexpr (Shape::is_complex) to.step[N + n] = static_cast<T>(im[L * N + n]);
  }
  if (!gradients) return;
  for (Index i = 0; i < L; ++i)
    for (Index j = 0; j < L; ++j) to.adjoint[i * L + j] = to.output[j * L + i];
  for (Index n = 0; n < shape.state(); ++n)
    for (Index j = 0; j < L; ++j) {
      to.adjoint[(L + n) * L + j] = to.input[j * padded + n];
      to.output_adjoint[j * padded + n] = output[n * L + j];
    }
}

/// Gradients of the tables, as backward sums them.
template <class T, class K>
struct ChunkGradients {
  using Shape = ChunkShape<T, K>;
  static constexpr Index L = Shape::chunk;

  T* input;   ///< (chunk, row): of the kernel (by input and output), then of the input table
  T* output;  ///< (chunk, padded): of the output table, transposed
  T* step;    ///< (parts, modes): of ā^chunk

  static Index size(const Shape& s) noexcept { return L * (s.row() + s.padded()) + s.padded(); }
  static ChunkGradients place(T* at, const Shape& s) noexcept {
    T* const output = at + L * s.row();
    return {at, output, output + L * s.padded()};
  }
};

/// a b, without the checks for infinities that the operator makes.
inline std::complex<double> complex_product(std::complex<double> a,
                                            std::complex<double> b) noexcept {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

/// What one system receives: p_k with which the loss moves by Re(p_k dk), (modes) complex each.
struct ModeGradients {
  std::complex<double>*a, *b, *C;  ///< of ā, of B̄ = g B, and of C
  double D;
};

/// Carries the gradients of the tables to those of ā, B̄, C and D. p.a is added to; `wide` as for
/// fill_tables.
template <class T, class K>
void gather_tables(const ChunkSystem& m, const ChunkShape<T, K>& shape,
                   const ChunkGradients<T, K>& from, double* wide, ModeGradients& p) noexcept {
  using Shape = ChunkShape<T, K>;
  using Complex = std::complex<double>;
  constexpr Index L = Shape::chunk;
  constexpr double s = static_cast<double>(output_scale<K>);
  const Index N = shape.modes, padded = shape.padded(), row = shape.row();
  double *re = wide, *im = re + (L + 1) * N;
  fill_powers<T, K>(m, N, re, im);
  double taps[static_cast<std::size_t>(L)];
  for (Index d = 0; d < L; ++d) {
    taps[d] = 0;
    for (Index i = 0; i + d < L; ++i) taps[d] += static_cast<double>(from.input[i * row + i + d]);
  }
  p.D = taps[0];
  for (Index n = 0; n < N; ++n) {
    const auto power = [&](Index j) { return Complex(re[j * N + n], im[j * N + n]); };
    const auto pair = [&](const T* at, double sign) {
      if constexpr (Shape::is_complex)
        return Complex(static_cast<double>(at[n]), sign * static_cast<double>(at[N + n]));
      else
        return Complex(static_cast<double>(at[n]));
    };
    // Sums of gradients with powers of ā, and of the derivatives of these powers.
    Complex in = 0, in_slope = 0, out = 0, out_slope = 0, tap = 0, tap_slope = 0;
    for (Index j = 0; j < L; ++j) {
      const auto order = static_cast<double>(j);
      const Complex by_input = pair(from.input + (L - 1 - j) * row + L, -1);
      const Complex by_output = s * pair(from.output + j * padded, 1);
      const Complex now = power(j), before = j > 0 ? order * power(j - 1) : 0.0;
      in += complex_product(by_input, now);
      in_slope += complex_product(by_input, before);
      out += complex_product(by_output, power(j + 1));
      out_slope += complex_product(by_output, (order + 1) * now);
      tap += s * taps[j] * now;
      tap_slope += s * taps[j] * before;
    }
    const Complex b = Complex(m.g_re[n], m.g_im[n]) * Complex(m.B_re[n], m.B_im[n]);
    const Complex C(m.C_re[n], m.C_im[n]);
    p.b[n] += in + tap * C;
    p.C[n] += out + tap * b;
    p.a[n] += in_slope * b + out_slope * C + tap_slope * C * b +
              pair(from.step, -1) * (static_cast<double>(L) * power(L - 1));
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
