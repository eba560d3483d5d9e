#pragma once

#include <limits>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE double make_reflection(double* x, Index size) {
  double rest = 0;
  for (Index i = 1; i < size; ++i) rest += x[i] * x[i];
  if (!(rest > (std::numeric_limits<double>::min)())) {
    for (Index i = 1; i < size; ++i) x[i] = 0;
    return 0;
  }
  const double head = x[0], length = std::sqrt(head * head + rest);
  const double beta = head >= 0 ? -length : length;
  for (Index i = 1; i < size; ++i) x[i] /= head - beta;
  x[0] = beta;
  return (beta - head) / beta;
}

/// y ← y − factor v (vᵀ y), v = (1, tail).
SSM_INLINE void reflect(double* y, const double* v, double factor, Index size) {
  double sum = y[0];
  for (Index i = 1; i < size; ++i) sum += v[i] * y[i];
  sum *= factor;
  y[0] -= sum;
  for (Index i = 1; i < size; ++i) y[i] -= sum * v[i];
}

SSM_INLINE void triangularize(RealMatrix& A, RealMatrix& B) {
  const Index rows = A.rows();
  for (Index k = 0; k < (std::min)(rows, A.cols()); ++k) {
    double* v = A.col(k) + k;
    const double factor = make_reflection(v, rows - k);
    for (Index j = k + 1; j < A.cols(); ++j) reflect(A.col(j) + k, v, factor, rows - k);
    for (Index j = 0; j < B.cols(); ++j) reflect(B.col(j) + k, v, factor, rows - k);
    for (Index i = k + 1; i < rows; ++i) A(i, k) = 0;
  }
}

SSM_INLINE RealMatrix least_squares(RealMatrix A, RealMatrix B) {
  triangularize(A, B);
  const Index n = A.cols();
  RealMatrix X = B.block(0, 0, n, B.cols());
  for (Index j = 0; j < X.cols(); ++j)
    for (Index k = n; k-- > 0;) {
      const double weight = X(k, j) /= A(k, k);
      for (Index i = 0; i < k; ++i) X(i, j) -= A(i, k) * weight;
    }
  return X;
}

SSM_INLINE RealMatrix to_hessenberg(RealMatrix& A, bool want_Q) {
  const Index n = A.rows();
  RealMatrix Q = RealMatrix::Identity(want_Q ? n : 0, want_Q ? n : 0);
  std::vector<double> sums(static_cast<std::size_t>(n));
  const auto reflect_columns = [&](RealMatrix& M, Index rows, const double* v, double factor,
                                   Index from) {
    std::fill(sums.begin(), sums.end(), 0.0);  // M v, a column of M at a time
    for (Index j = from; j < n; ++j) {
      const double weight = j == from ? 1 : v[j - from];
      for (Index i = 0; i < rows; ++i) sums[static_cast<std::size_t>(i)] += weight * M(i, j);
    }
    for (Index j = from; j < n; ++j) {
      const double weight = factor * (j == from ? 1 : v[j - from]);
      for (Index i = 0; i < rows; ++i) M(i, j) -= weight * sums[static_cast<std::size_t>(i)];
    }
  };
  for (Index k = 0; k + 2 < n; ++k) {
    double* v = A.col(k) + k + 1;
    const Index size = n - k - 1;
    const double factor = make_reflection(v, size);
    if (factor != 0) {
      for (Index j = k + 1; j < n; ++j) reflect(A.col(j) + k + 1, v, factor, size);
      reflect_columns(A, n, v, factor, k + 1);
      if (want_Q) reflect_columns(Q, n, v, factor, k + 1);
    }
    for (Index i = k + 2; i < n; ++i) A(i, k) = 0;
  }
  return Q;
}

SSM_INLINE ComplexSchurForm complex_schur(std::string_view function, const RealMatrix& A) {
  using Complex = std::complex<double>;
  const Index n = A.rows();
  RealMatrix H = A;
  const int exponent = take_out_exponent(H);
  const RealMatrix Q = to_hessenberg(H, true);
  ComplexSchurForm form{ComplexMatrix(n, n), ComplexMatrix(n, n)};
  ComplexMatrix &T = form.T, &U = form.U;
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) {
      T(i, j) = H(i, j);
      U(i, j) = Q(i, j);
    }
  const auto size = [](Complex z) { return std::abs(z.real()) + std::abs(z.imag()); };
  const auto negligible = [&](Index i) {
    const double beside = size(T(i, i)) + size(T(i + 1, i + 1));
    if (!(size(T(i + 1, i)) <= std::numeric_limits<double>::epsilon() * beside)) return false;
    T(i + 1, i) = 0;
    return true;
  };
  const auto shift_of = [&](Index last, int turn) -> Complex {
    if ((turn == 10 || turn == 20) && last > 1)  // an exceptional one
      return std::abs(T(last, last - 1).real()) + std::abs(T(last - 1, last - 2).real());
    Complex a = T(last - 1, last - 1), b = T(last - 1, last), c = T(last, last - 1),
            d = T(last, last);
    const double scale = std::abs(a) + std::abs(b) + std::abs(c) + std::abs(d);
    a /= scale;
    b /= scale;
    c /= scale;
    d /= scale;
    const Complex bc = b * c, difference = a - d;
    const Complex root = std::sqrt(difference * difference + 4.0 * bc);
    const Complex determinant = a * d - bc, trace = a + d;
    Complex one = (trace + root) / 2.0, other = (trace - root) / 2.0;
    if (size(one) > size(other))
      other = determinant / one;
    else if (size(other) > 0)
      one = determinant / other;
    return scale * (size(one - d) < size(other - d) ? one : other);
  };
  const auto rotate = [&](Index i, Complex p, Complex q, Index first_column, Index last_row) {
    const double head = std::abs(p), below = std::abs(q), length = std::hypot(head, below);
    if (length == 0) return Complex(0);
    const Complex turn = head == 0 ? Complex(1) : p / head;
    const double c = head / length;
    const Complex s = turn * (std::conj(q) / length), s_bar = std::conj(s);
    for (Index j = first_column; j < n; ++j) {
      const Complex x = T(i, j), y = T(i + 1, j);
      T(i, j) = c * x + product_of(s, y);
      T(i + 1, j) = c * y - product_of(s_bar, x);
    }
    const auto rotate_columns = [&](ComplexMatrix& M, Index rows) {
      Complex *x = M.col(i), *y = M.col(i + 1);
      for (Index k = 0; k < rows; ++k) {
        const Complex a = x[k], b = y[k];
        x[k] = c * a + product_of(s_bar, b);
        y[k] = c * b - product_of(s, a);
      }
    };
    rotate_columns(T, last_row + 1);
    rotate_columns(U, n);
    return turn * length;
  };

  const Index most = 30 * n;
  Index last = n - 1, turns = 0;
  int turn = 0;
  while (last > 0) {
    if (negligible(last - 1)) {
      turn = 0;
      --last;
      continue;
    }
    ++turn;
    if (++turns > most) throw_convergence(function, "the Schur form of A", "not found", "one");
    Index first = last - 1;
    while (first > 0 && !negligible(first - 1)) --first;
    const Complex shift = shift_of(last, turn);
    rotate(first, T(first, first) - shift, T(first + 1, first), first, (std::min)(first + 2, last));
    for (Index i = first + 1; i < last; ++i) {
      const Complex p = T(i, i - 1), q = T(i + 1, i - 1);
      const Complex left = rotate(i, p, q, i, (std::min)(i + 2, last));
      T(i, i - 1) = left;
      T(i + 1, i - 1) = 0;
    }
  }
  for (Index j = 0; j < n; ++j)
    for (Index i = j + 1; i < n; ++i) T(i, j) = 0;
  multiply_by_power_of_two(T, exponent);
  return form;
}

SSM_INLINE SingularValues singular_values(const RealMatrix& A) {
  constexpr int sweeps = 60;
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const Index rows = A.rows(), n = A.cols();
  RealMatrix W = A, V = RealMatrix::Identity(n, n);
  const int exponent = take_out_exponent(W);
  const double least = epsilon * epsilon * W.norm();  // shorter columns are rounding
  bool turned = true;
  for (int sweep = 0; turned && sweep < sweeps; ++sweep) {
    turned = false;
    for (Index i = 0; i < n; ++i)
      for (Index j = i + 1; j < n; ++j) {
        double a = 0, b = 0, c = 0;
        for (Index k = 0; k < rows; ++k) {
          a += W(k, i) * W(k, i);
          b += W(k, j) * W(k, j);
          c += W(k, i) * W(k, j);
        }
        const double length = std::sqrt(a) * std::sqrt(b);
        if (!(std::abs(c) > 2 * epsilon * length) || !(std::sqrt(a) > least) ||
            !(std::sqrt(b) > least))
          continue;
        turned = true;
        const double zeta = (b - a) / (2 * c);
        const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::hypot(1, zeta));
        const double cosine = 1 / std::hypot(1, t), sine = cosine * t;
        const auto rotate = [&](double* x, double* y, Index size) {
          for (Index k = 0; k < size; ++k) {
            const double old = x[k];
            x[k] = cosine * old - sine * y[k];
            y[k] = sine * old + cosine * y[k];
          }
        };
        rotate(W.col(i), W.col(j), rows);
        rotate(V.col(i), V.col(j), n);
      }
  }
  multiply_by_power_of_two(W, exponent);
  std::vector<std::pair<double, Index>> order;
  for (Index j = 0; j < n; ++j) order.emplace_back(-W.block(0, j, rows, 1).norm(), j);
  std::sort(order.begin(), order.end());
  SingularValues result{RealMatrix(rows, n), RealMatrix(n, n), RealVector(n)};
  for (Index j = 0; j < n; ++j) {
    const auto& [length, from] = order[static_cast<std::size_t>(j)];
    result.sigma(j) = -length;
    result.W.set_block(0, j, W.block(0, from, rows, 1));
    result.V.set_block(0, j, V.block(0, from, n, 1));
  }
  return result;
}

SSM_INLINE ComplexVector real_eigenvalues(std::string_view function, RealMatrix A) {
  ComplexVector values(A.rows());
  if (!find_real_eigenvalues(std::move(A), values))
    throw_convergence(function, "the Schur form of A", "not found", "one");
  return values;
}

SSM_INLINE bool find_real_eigenvalues(RealMatrix A, ComplexVector& values) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const Index n = A.rows();
  if (A.is_zero()) {
    for (Index i = 0; i < n; ++i) values(i) = 0;
    return true;
  }
  const int exponent = take_out_exponent(A);
  to_hessenberg(A, false);
  double norm = 0;
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i <= (std::min)(j + 1, n - 1); ++i) norm += std::abs(A(i, j));

  const auto found = [&](Index i, double real, double imaginary) {
    values(i) = {std::ldexp(real, exponent), std::ldexp(imaginary, exponent)};
  };
  double moved = 0;  // the shifts that were taken off the whole diagonal
  int turn = 0;
  for (Index last = n - 1; last >= 0;) {
    Index first = last;
    for (; first > 0; --first) {
      double beside = std::abs(A(first - 1, first - 1)) + std::abs(A(first, first));
      if (beside == 0) beside = norm;
      if (std::abs(A(first, first - 1)) < epsilon * beside) break;
    }
    if (first == last) {
      found(last, A(last, last) + moved, 0);
      --last;
      turn = 0;
      continue;
    }
    double x = A(last, last), y = A(last - 1, last - 1), w = A(last, last - 1) * A(last - 1, last);
    if (first == last - 1) {
      const double p = (y - x) / 2, q = p * p + w, z = std::sqrt(std::abs(q));
      x += moved;
      if (q >= 0) {
        const double far_root = p >= 0 ? p + z : p - z;
        found(last - 1, x + far_root, 0);
        found(last, far_root != 0 ? x - w / far_root : x + far_root, 0);
      } else {
        found(last - 1, x + p, z);
        found(last, x + p, -z);
      }
      last -= 2;
      turn = 0;
      continue;
    }
    if (turn > 0 && turn % 10 == 0) {  // an exceptional shift
      moved += x;
      for (Index i = 0; i <= last; ++i) A(i, i) -= x;
      const double s = std::abs(A(last, last - 1)) + std::abs(A(last - 1, last - 2));
      x = y = 0.75 * s;
      w = -0.4375 * s * s;
    }
    if (++turn > 120) return false;

    // Two neighbouring small elements below the diagonal allow to begin at m.
    double p = 0, q = 0, r = 0;
    Index m = last - 2;
    for (;; --m) {
      const double z = A(m, m), x_off = x - z, y_off = y - z;
      p = (x_off * y_off - w) / A(m + 1, m) + A(m, m + 1);
      q = A(m + 1, m + 1) - z - x_off - y_off;
      r = A(m + 2, m + 1);
      const double s = std::abs(p) + std::abs(q) + std::abs(r);
      p /= s;
      q /= s;
      r /= s;
      if (m == first) break;
      if (std::abs(A(m, m - 1)) * (std::abs(q) + std::abs(r)) <
          epsilon * std::abs(p) *
              (std::abs(A(m - 1, m - 1)) + std::abs(z) + std::abs(A(m + 1, m + 1))))
        break;
    }
    for (Index i = m + 2; i <= last; ++i) {
      A(i, i - 2) = 0;
      if (i > m + 2) A(i, i - 3) = 0;
    }
    for (Index k = m; k < last; ++k) {
      const bool three = k != last - 1;
      double scale = 1;
      if (k != m) {
        p = A(k, k - 1);
        q = A(k + 1, k - 1);
        r = three ? A(k + 2, k - 1) : 0;
        scale = std::abs(p) + std::abs(q) + std::abs(r);
        if (scale == 0) continue;
        p /= scale;
        q /= scale;
        r /= scale;
      }
      const double length = std::sqrt(p * p + q * q + r * r), s = p < 0 ? -length : length;
      if (s == 0) continue;
      if (k != m)
        A(k, k - 1) = -s * scale;
      else if (first != m)
        A(k, k - 1) = -A(k, k - 1);
      p += s;
      const double v0 = p / s, v1 = q / s, v2 = r / s;
      q /= p;
      r /= p;
      for (Index j = k; j <= last; ++j) {
        const double sum = A(k, j) + q * A(k + 1, j) + (three ? r * A(k + 2, j) : 0);
        A(k, j) -= sum * v0;
        A(k + 1, j) -= sum * v1;
        if (three) A(k + 2, j) -= sum * v2;
      }
      for (Index i = first; i <= (std::min)(last, k + 3); ++i) {
        const double sum = v0 * A(i, k) + v1 * A(i, k + 1) + (three ? v2 * A(i, k + 2) : 0);
        A(i, k) -= sum;
        A(i, k + 1) -= sum * q;
        if (three) A(i, k + 2) -= sum * r;
      }
    }
  }
  return true;
}

SSM_END_COMPILED
