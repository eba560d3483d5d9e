#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <complex>
#include <cstdint>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/dplr_step.hpp"

/// Powers of the A_bar of one diagonal plus low-rank channel as dense matrices, in double.
///
/// A state is a row of real numbers, Re h_0, Im h_0, Re h_1, …, and so is an output, such that
/// y = Σ c h. Matrices are transposed to match: a step is h ← h N.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Σ a b over `count` numbers, lane by lane and then over the lanes.
inline double dot_rows(Index count, const double* a, const double* b) noexcept {
  constexpr Index W = lanes<double>;
  Vec<double> sums(0.0);
  Index i = 0;
  for (; i + W <= count; i += W)
    sums = fma(Vec<double>::load(a + i), Vec<double>::load(b + i), sums);
  double total = sum(sums);
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

/// c += a b on the calling thread, without allocation. Rows of c are contiguous, and rows of b or
/// else both its columns and the rows of a.
inline void add_product(const View<const double, 2>& a, const View<const double, 2>& b,
                        const View<double, 2>& c) noexcept {
  const Index rows = c.extent(0), cols = c.extent(1), inner = a.extent(1);
  assert(a.extent(0) == rows && b.extent(0) == inner && b.extent(1) == cols);
  if (b.stride(1) != 1 && a.stride(1) == 1) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j)
        c(i, j) += dot_rows(inner, a.data() + i * a.stride(0), b.data() + j * b.stride(1));
    return;
  }
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < inner; ++k) {
      const double factor = a(i, k);
      const double* __restrict__ from = b.data() + k * b.stride(0);
      double* __restrict__ to = c.data() + i * c.stride(0);
      for (Index j = 0; j < cols; ++j) to[j] += factor * from[j];
    }
}

inline void set_product(const View<const double, 2>& a, const View<const double, 2>& b,
                        const View<double, 2>& c) noexcept {
  for (Index i = 0; i < c.extent(0); ++i) std::fill_n(&c(i, 0), c.extent(1), 0.0);
  add_product(a, b, c);
}

template <class T>
[[nodiscard]] View<T, 2> flipped(const View<T, 2>& view) noexcept {
  return {view.data(), {view.extent(1), view.extent(0)}, {view.stride(1), view.stride(0)}};
}

/// N and its powers of one channel, and their gradients.
class DplrPowers {
 public:
  /// Makes room for powers up to `longest`, after which nothing else allocates.
  void resize(Index state, Index longest) {
    const Index levels = bits((std::max<Index>)(longest, 1));
    squares_.resize({levels, state, state});
    products_.resize({levels, state, state});
    factors_.resize({state, state});
  }
  void resize_gradients() {
    gradients_.resize(squares_.extents());
    gradients_.fill(0.0);
    product_gradient_.resize(factors_.extents());
    other_.resize(factors_.extents());
  }

  [[nodiscard]] static Index bits(Index length) noexcept {
    return static_cast<Index>(std::bit_width(static_cast<std::uint64_t>(length)));
  }

  /// N^(2^level), as far as `load` went.
  [[nodiscard]] View<const double, 2> square(Index level) const noexcept {
    return squares_.view()[level];
  }
  [[nodiscard]] View<double, 2> square_gradient(Index level) noexcept {
    return gradients_.view()[level];
  }

  /// The squares below N^(2^levels).
  void load(const DplrStep<double>& step, Index levels) noexcept {
    const View<double, 3> squares = squares_;
    for (Index k = 0; k < squares.extent(1); ++k) {
      double* const row = &squares(0, k, 0);
      std::fill_n(row, squares.extent(2), 0.0);
      row[k] = 1;
      step(0, reinterpret_cast<std::complex<double>*>(row));
    }
    for (Index level = 1; level < levels; ++level)
      set_product(square(level - 1), square(level - 1), squares[level]);
  }

  /// c of the true C from c of C̃ = C (I − A_bar^length), in place: (I − N^length) c = c̃. A_bar is
  /// a contraction when Λ is stable, so that the symmetric part of the matrix is positive and no
  /// pivot vanishes. Needs the squares up to `length`, which is at least 1.
  void untruncate(Index length, double* c) noexcept { solve(raise(length), c); }

  /// The same for a step and any length, with room for powers up to 3 alone: no square is kept.
  void untruncate(const DplrStep<double>& step, Index length, double* c) noexcept {
    load(step, 1);
    View<double, 2> square = squares_.view()[0], next_square = squares_.view()[1];
    View<double, 2> power = products_.view()[0], next = products_.view()[1];
    bool begun = false;
    for (Index rest = length; rest > 0; rest /= 2) {
      if (rest % 2 == 1 && begun) {
        set_product(power, square, next);
        std::swap(power, next);
      } else if (rest % 2 == 1) {
        std::copy_n(square.data(), square.size(), power.data());
        begun = true;
      }
      if (rest == 1) break;
      set_product(square, square, next_square);
      std::swap(square, next_square);
    }
    solve(power, c);
  }

  /// The gradient of c in that of c̃, in place, and adds to the gradients of the squares. c is what
  /// untruncate left.
  void untruncate_backward(Index length, const double* c, double* gradient) noexcept {
    const View<double, 2> m = factors_, dpower = product_gradient_;
    const Index n = m.extent(0);
    for (Index i = 0; i < n; ++i) {
      gradient[i] /= m(i, i);
      for (Index j = i + 1; j < n; ++j) gradient[j] -= m(i, j) * gradient[i];
    }
    for (Index i = n - 1; i >= 0; --i)
      for (Index j = 0; j < i; ++j) gradient[j] -= m(i, j) * gradient[i];
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) dpower(i, j) = gradient[i] * c[j];
    raise_backward(length);
  }

  /// Carries the gradients of the squares down to that of N.
  void load_backward(Index levels) noexcept {
    for (Index level = levels - 1; level > 0; --level) {
      const View<const double, 2> N = square(level - 1), g = square_gradient(level);
      add_product(flipped(N), g, square_gradient(level - 1));
      add_product(g, flipped(N), square_gradient(level - 1));
    }
  }

 private:
  /// (I − power) c = c̃ in place.
  void solve(const View<const double, 2>& power, double* c) noexcept {
    const View<double, 2> m = factors_;
    const Index n = m.extent(0);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) m(i, j) = (i == j ? 1.0 : 0.0) - power(i, j);
    for (Index k = 0; k < n; ++k)
      for (Index i = k + 1; i < n; ++i) {
        const double factor = m(i, k) /= m(k, k);
        const double* __restrict__ from = &m(k, 0);
        double* __restrict__ to = &m(i, 0);
        for (Index j = k + 1; j < n; ++j) to[j] -= factor * from[j];
      }
    for (Index i = 0; i < n; ++i) c[i] -= dot_rows(i, &m(i, 0), c);
    for (Index i = n - 1; i >= 0; --i)
      c[i] = (c[i] - dot_rows(n - 1 - i, &m(i, 0) + i + 1, c + i + 1)) / m(i, i);
  }

  /// N^length by the squares of its bits, lowest first.
  View<const double, 2> raise(Index length) noexcept {
    View<const double, 2> result;
    Index used = 0;
    for (Index level = 0; length >> level > 0; ++level) {
      if ((length >> level) % 2 == 0) continue;
      if (result) {
        const View<double, 2> next = products_.view()[used++];
        set_product(result, square(level), next);
        result = next;
      } else {
        result = square(level);
      }
    }
    return result;
  }

  /// From the gradient of N^length, which is lost, to those of the squares.
  void raise_backward(Index length) noexcept {
    const Index lowest = std::countr_zero(static_cast<std::uint64_t>(length));
    Index used = std::popcount(static_cast<std::uint64_t>(length)) - 1;
    const View<double, 2> gradient = product_gradient_, before = other_;
    for (Index level = bits(length) - 1; level > lowest; --level) {
      if ((length >> level) % 2 == 0) continue;
      --used;
      const View<const double, 2> factor =
          used == 0 ? square(lowest) : View<const double, 2>(products_.view()[used - 1]);
      add_product(flipped(factor), gradient, square_gradient(level));
      set_product(gradient, flipped(square(level)), before);
      std::copy_n(before.data(), before.size(), gradient.data());
    }
    const View<double, 2> to = square_gradient(lowest);
    for (Index i = 0; i < gradient.size(); ++i) to.data()[i] += gradient.data()[i];
  }

  Tensor<double, 3> squares_, products_, gradients_;  // (levels, state, state)
  Tensor<double, 2> factors_;                         // L and U of I − N^length
  Tensor<double, 2> product_gradient_, other_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
