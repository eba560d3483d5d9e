#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense_algebra.hpp"

SSM_BEGIN_COMPILED

/// The rotation by which (x, y) becomes (length, 0).
struct Rotation {
  double cosine, sine;

  Rotation(double x, double y) {
    const double length = std::hypot(x, y);
    cosine = length > 0 ? x / length : 1;
    sine = length > 0 ? y / length : 0;
  }
  /// Of rows i and j from column `from` up to `to`.
  void rows(RealMatrix& M, Index i, Index j, Index from, Index to) const {
    for (Index k = from; k < to; ++k) turn(M(i, k), M(j, k));
  }
  /// Of columns i and j, the rows from `from` up to `to`.
  void columns(RealMatrix& M, Index i, Index j, Index from, Index to) const {
    for (Index k = from; k < to; ++k) turn(M(k, i), M(k, j));
  }

 private:
  void turn(double& x, double& y) const {
    const double old = x;
    x = cosine * old + sine * y;
    y = cosine * y - sine * old;
  }
};

/// A pencil A − λ B in Hessenberg and triangular form, of which QZ steps take one eigenvalue after
/// the other off the end.
class Pencil {
 public:
  Pencil(RealMatrix A, RealMatrix B) : A_(std::move(A)), B_(std::move(B)) {
    exponent_ = to_unit_size(A_) - to_unit_size(B_);
    const Index n = A_.rows();
    triangularize(B_, A_);
    for (Index j = 0; j + 2 < n; ++j)
      for (Index i = n - 1; i > j + 1; --i) {
        const Rotation left(A_(i - 1, j), A_(i, j));
        left.rows(A_, i - 1, i, j, n);
        left.rows(B_, i - 1, i, i - 1, n);
        A_(i, j) = 0;
        clear_left_of_diagonal(i, 0, n);
      }
    size_of_A_ = A_.norm();
    least_of_B_ = std::numeric_limits<double>::epsilon() * B_.norm();
  }

  /// False where the iteration does not end.
  bool find(std::vector<std::complex<double>>& finite) {
    int turn = 0;
    for (Index last = A_.rows() - 1; last >= 0;) {
      Index first = last;
      while (first > 0 && !negligible(first, turn)) --first;
      if (first > 0) A_(first, first - 1) = 0;
      Index at = last;
      while (at >= first && std::abs(B_(at, at)) > least_of_B_) --at;
      if (at >= first) {
        drop_infinite(first, at, last);
        --last;
        turn = 0;
      } else if (first == last) {
        finite.push_back(scaled(A_(last, last) / B_(last, last)));
        --last;
        turn = 0;
      } else if (first == last - 1) {
        find_two(first, finite);
        last -= 2;
        turn = 0;
      } else {
        if (++turn > most_turns) return false;
        step(first, last, turn);
      }
    }
    return true;
  }

 private:
  static constexpr int most_turns = 120;

  /// Divides by the power of two near the largest element, and gives its exponent.
  static int to_unit_size(RealMatrix& M) {
    double largest = 0;
    for (Index i = 0; i < M.size(); ++i) largest = (std::max)(largest, std::abs(M.data()[i]));
    if (!(largest > 0)) return 0;
    const int exponent = std::ilogb(largest);
    for (Index i = 0; i < M.size(); ++i) M.data()[i] = std::ldexp(M.data()[i], -exponent);
    return exponent;
  }

  [[nodiscard]] std::complex<double> scaled(std::complex<double> value) const {
    return {std::ldexp(value.real(), exponent_), std::ldexp(value.imag(), exponent_)};
  }

  /// Against what stands beside it, which keeps the digits of small eigenvalues; where rounding
  /// keeps it from becoming that small, against the whole.
  [[nodiscard]] bool negligible(Index i, int turn) const {
    double beside = std::abs(A_(i - 1, i - 1)) + std::abs(A_(i, i));
    if (beside == 0 || turn > most_turns / 2) beside = size_of_A_;
    return std::abs(A_(i, i - 1)) <= std::numeric_limits<double>::epsilon() * beside;
  }

  /// Turns columns i − 1 and i so that B(i, i − 1) is 0 again.
  void clear_left_of_diagonal(Index i, Index first, Index rows_of_A) {
    const Rotation right(B_(i, i), B_(i, i - 1));
    right.columns(B_, i, i - 1, first, i + 1);
    right.columns(A_, i, i - 1, first, rows_of_A);
    B_(i, i - 1) = 0;
  }

  /// Chases the 0 at B(at, at) down the diagonal, where A then leaves an infinite eigenvalue last
  /// (Golub & Van Loan, Matrix Computations, section 7.7.5).
  void drop_infinite(Index first, Index at, Index last) {
    B_(at, at) = 0;
    for (Index k = at; k < last; ++k) {
      const Rotation left(B_(k, k + 1), B_(k + 1, k + 1));
      left.rows(B_, k, k + 1, k + 1, last + 1);
      left.rows(A_, k, k + 1, (std::max)(k - 1, first), last + 1);
      B_(k + 1, k + 1) = 0;
      if (k == first) continue;
      const Rotation right(A_(k + 1, k), A_(k + 1, k - 1));
      right.columns(A_, k, k - 1, first, k + 2);
      right.columns(B_, k, k - 1, first, k + 1);
      A_(k + 1, k - 1) = 0;
    }
    if (last == first) return;
    const Rotation right(A_(last, last), A_(last, last - 1));
    right.columns(A_, last, last - 1, first, last + 1);
    right.columns(B_, last, last - 1, first, last + 1);
    A_(last, last - 1) = 0;
  }

  /// A B⁻¹ of the rows and columns i and i + 1, as a, b, c, d of [a b; c d].
  [[nodiscard]] std::array<double, 4> ratio_of_two(Index i) const {
    const double a = A_(i, i) / B_(i, i), c = A_(i + 1, i) / B_(i, i);
    return {a, (A_(i, i + 1) - a * B_(i, i + 1)) / B_(i + 1, i + 1), c,
            (A_(i + 1, i + 1) - c * B_(i, i + 1)) / B_(i + 1, i + 1)};
  }

  void find_two(Index i, std::vector<std::complex<double>>& finite) const {
    const auto [a, b, c, d] = ratio_of_two(i);
    const double half = (a - d) / 2, root = half * half + b * c;
    if (root < 0) {
      finite.push_back(scaled({d + half, std::sqrt(-root)}));
      finite.push_back(std::conj(finite.back()));
      return;
    }
    // The larger by its sum, the other by the product, which no large ratio has rounded.
    const double middle = a / 2 + d / 2, far_one = middle + std::copysign(std::sqrt(root), middle);
    const double determinant = A_(i, i) * A_(i + 1, i + 1) - A_(i, i + 1) * A_(i + 1, i);
    finite.push_back(scaled(far_one));
    finite.push_back(
        scaled(far_one != 0 ? determinant / B_(i, i) / B_(i + 1, i + 1) / far_one : 0));
  }

  /// x ← x − factor v (vᵀ x) of three rows or, from the right, columns.
  struct Reflection {
    double factor, v1, v2;

    explicit Reflection(std::array<double, 3> x) : factor(make_reflection(x.data(), 3)) {
      v1 = x[1];
      v2 = x[2];
    }
    void apply(double& x0, double& x1, double& x2) const {
      const double sum = factor * (x0 + v1 * x1 + v2 * x2);
      x0 -= sum;
      x1 -= sum * v1;
      x2 -= sum * v2;
    }
  };

  /// A double step with the eigenvalues of the last two rows and columns as shifts (Moler & Stewart
  /// 1973).
  void step(Index first, Index last, int turn) {
    auto [y, b, c, x] = ratio_of_two(last - 1);
    double w = b * c;
    if (turn % 10 == 0) {  // exceptional shifts
      const double s = std::abs(c) + std::abs(A_(last - 1, last - 2) / B_(last - 2, last - 2));
      y = x += 0.75 * s;
      w = -0.4375 * s * s;
    }
    const auto [m00, m01, m10, m11] = ratio_of_two(first);
    const double off_x = x - m00, off_y = y - m00;
    std::array<double, 3> head{(off_x * off_y - w) / m10 + m01, m11 - m00 - off_x - off_y,
                               A_(first + 2, first + 1) / B_(first + 1, first + 1)};
    const double most = (std::max)({std::abs(head[0]), std::abs(head[1]), std::abs(head[2])});
    if (most > 0 && std::isfinite(head[0] + head[1] + head[2]))
      for (double& element : head) element /= most;
    else
      head = {1, 1, 1};
    for (Index k = first; k + 1 < last; ++k) {
      if (k > first) head = {A_(k, k - 1), A_(k + 1, k - 1), A_(k + 2, k - 1)};
      const Reflection left(head);
      for (Index j = (std::max)(k - 1, first); j <= last; ++j)
        left.apply(A_(k, j), A_(k + 1, j), A_(k + 2, j));
      for (Index j = k; j <= last; ++j) left.apply(B_(k, j), B_(k + 1, j), B_(k + 2, j));
      if (k > first) A_(k + 1, k - 1) = A_(k + 2, k - 1) = 0;
      const Reflection right({B_(k + 2, k + 2), B_(k + 2, k + 1), B_(k + 2, k)});
      for (Index i = first; i <= (std::min)(k + 3, last); ++i)
        right.apply(A_(i, k + 2), A_(i, k + 1), A_(i, k));
      for (Index i = first; i <= k + 2; ++i) right.apply(B_(i, k + 2), B_(i, k + 1), B_(i, k));
      B_(k + 2, k + 1) = B_(k + 2, k) = 0;
      clear_left_of_diagonal(k + 1, first, (std::min)(k + 3, last) + 1);
    }
    const Rotation left(A_(last - 1, last - 2), A_(last, last - 2));
    left.rows(A_, last - 1, last, last - 2, last + 1);
    left.rows(B_, last - 1, last, last - 1, last + 1);
    A_(last, last - 2) = 0;
    clear_left_of_diagonal(last, first, last + 1);
  }

  RealMatrix A_, B_;
  int exponent_ = 0;
  double size_of_A_ = 0, least_of_B_ = 0;
};

SSM_INLINE bool find_pencil_eigenvalues(RealMatrix A, RealMatrix B,
                                        std::vector<std::complex<double>>& finite) {
  return Pencil(std::move(A), std::move(B)).find(finite);
}

SSM_END_COMPILED
