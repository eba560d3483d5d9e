#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/lyapunov.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE ComplexMatrix adjoint(const ComplexMatrix& A) {
  ComplexMatrix result = A.transpose();
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = std::conj(result.data()[i]);
  return result;
}

SSM_INLINE ComplexMatrix to_complex(const RealMatrix& A) {
  ComplexMatrix result(A.rows(), A.cols());
  std::copy_n(A.data(), static_cast<std::size_t>(A.size()), result.data());
  return result;
}

SSM_INLINE RealMatrix real_part(const ComplexMatrix& A) {
  RealMatrix result(A.rows(), A.cols());
  for (Index i = 0; i < A.size(); ++i) result.data()[i] = A.data()[i].real();
  return result;
}

/// Orders states so that A is block upper triangular, each block of states that act on each other
/// in a circle: Tarjan (1972). The last of each block are `ends`.
struct Groups {
  std::vector<Index> order, ends;
};
SSM_INLINE Groups groups_of(const RealMatrix& A) {
  const Index n = A.rows();
  Groups groups;
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  std::vector<Index> number(at(n), -1), low(at(n)), stack;
  std::vector<bool> open(at(n));
  struct Visit {
    Index node, next;
  };
  std::vector<Visit> path;
  Index count = 0;
  for (Index root = 0; root < n; ++root) {
    if (number[at(root)] >= 0) continue;
    path.push_back({root, 0});
    while (!path.empty()) {
      const Index node = path.back().node;
      if (path.back().next == 0) {
        number[at(node)] = low[at(node)] = count++;
        stack.push_back(node);
        open[at(node)] = true;
      }
      Index next = path.back().next;
      for (; next < n; ++next) {  // node acts on next
        if (next == node || A(next, node) == 0) continue;
        if (number[at(next)] < 0) break;
        if (open[at(next)]) low[at(node)] = (std::min)(low[at(node)], number[at(next)]);
      }
      if (next < n) {
        path.back().next = next + 1;
        path.push_back({next, 0});
        continue;
      }
      path.pop_back();
      if (!path.empty()) {
        const Index above = path.back().node;
        low[at(above)] = (std::min)(low[at(above)], low[at(node)]);
      }
      if (low[at(node)] != number[at(node)]) continue;
      const std::size_t first = groups.order.size();
      for (Index member = -1; member != node;) {
        member = stack.back();
        stack.pop_back();
        open[at(member)] = false;
        groups.order.push_back(member);
      }
      std::sort(groups.order.begin() + static_cast<std::ptrdiff_t>(first), groups.order.end());
      groups.ends.push_back(static_cast<Index>(groups.order.size()));
    }
  }
  return groups;
}

/// A in units of its own and in the order of its groups, the largest rows of each group first.
struct GroupedMatrix {
  RealMatrix balanced, ordered;  ///< S⁻¹ A S, and that in the order
  RealVector scale;              ///< the diagonal of S
  Groups groups;

  explicit GroupedMatrix(RealMatrix A);
  [[nodiscard]] Index state(Index at) const { return groups.order[static_cast<std::size_t>(at)]; }
};

inline GroupedMatrix::GroupedMatrix(RealMatrix A) {
  const Index n = A.rows();
  Quadruple system = Quadruple::of(std::move(A), RealMatrix(n, 0));
  scale = to_own_units(system).states;
  balanced = std::move(system.A);
  groups = groups_of(balanced);
  RealVector size(n);  // of a row within its group
  Index from = 0;
  for (const Index to : groups.ends) {
    for (Index i = from; i < to; ++i)
      for (Index j = from; j < to; ++j)
        size(state(i)) = (std::max)(size(state(i)), std::abs(balanced(state(i), state(j))));
    std::stable_sort(groups.order.begin() + from, groups.order.begin() + to,
                     [&](Index a, Index b) { return size(a) > size(b); });
    from = to;
  }
  ordered = RealMatrix(n, n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) ordered(i, j) = balanced(state(i), state(j));
}

SSM_INLINE ComplexVector grouped_eigenvalues(std::string_view function, RealMatrix A) {
  const GroupedMatrix grouped(std::move(A));
  ComplexVector values(grouped.ordered.rows());
  Index from = 0;
  for (const Index to : grouped.groups.ends) {
    const Index count = to - from;
    const ComplexVector part =
        real_eigenvalues(function, grouped.ordered.block(from, from, count, count));
    for (Index i = 0; i < count; ++i) values(from + i) = part(i);
    from = to;
  }
  return values;
}

SSM_INLINE void SchurForm::factor(std::string_view function) {
  if (!balanced_.all_finite()) throw_domain(function, "A", "not finite", "finite");
  const GroupedMatrix grouped(std::move(balanced_));
  const RealMatrix& ordered = grouped.ordered;
  const Index n = ordered.rows();
  balanced_ = grouped.balanced;
  scale_ = grouped.scale;
  error_ = RealVector(n);

  form_ = {to_complex(ordered), ComplexMatrix(n, n)};
  ComplexMatrix turn(n, n);
  Index from = 0;
  for (const Index to : grouped.groups.ends) {
    const Index count = to - from;
    if (count == 1) {
      turn(from, from) = 1;
    } else {
      const RealMatrix group = ordered.block(from, from, count, count);
      const ComplexSchurForm form = complex_schur(function, group);
      // what stands above the group, and beside it
      form_.T.set_block(0, from, form_.T.block(0, from, from, count) * form.U);
      form_.T.set_block(from, to, adjoint(form.U) * form_.T.block(from, to, count, n - to));
      form_.T.set_block(from, from, form.T);
      turn.set_block(from, from, form.U);
      const double error = (group - real_part(form.U * form.T * adjoint(form.U))).norm();
      for (Index i = from; i < to; ++i) error_(i) = error;
    }
    for (Index i = from; i < to; ++i) {
      first_.push_back(from);
      end_.push_back(to);
    }
    from = to;
  }
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) form_.U(grouped.state(i), j) = turn(i, j);
}
SSM_INLINE double SchurForm::doubt(Index which) const {
  using Complex = std::complex<double>;
  const Index first = first_[static_cast<std::size_t>(which)];
  const Index size = end_[static_cast<std::size_t>(which)] - first, at = which - first;
  if (size == 1) return 0;
  const ComplexMatrix T = form_.T.block(first, first, size, size);
  const Complex lambda = T(at, at);
  ComplexVector x(size), y(size);  // T x = λ x, y* T = λ y*; y* x = 1
  x(at) = y(at) = 1;
  for (Index i = at; i-- > 0;) {
    Complex sum = 0;
    for (Index j = i + 1; j <= at; ++j) sum += product_of(T(i, j), x(j));
    x(i) = sum / (lambda - T(i, i));
  }
  for (Index j = at + 1; j < size; ++j) {
    Complex sum = 0;
    for (Index i = at; i < j; ++i) sum += product_of(std::conj(y(i)), T(i, j));
    y(j) = std::conj(sum / (lambda - T(j, j)));
  }
  std::vector<Index> states;  // of the group: the rows of U that it fills
  for (Index k = 0; k < form_.U.rows(); ++k)
    for (Index j = first; j < first + size; ++j)
      if (form_.U(k, j) != 0.0) {
        states.push_back(k);
        break;
      }
  const auto count = static_cast<Index>(states.size());
  const auto state = [&](Index i) { return states[static_cast<std::size_t>(i)]; };
  ComplexMatrix turn(count, size);
  for (Index j = 0; j < size; ++j)
    for (Index i = 0; i < count; ++i) turn(i, j) = form_.U(state(i), first + j);
  const ComplexMatrix again = turn * T * adjoint(turn);
  RealVector right(count), left(count);
  for (Index i = 0; i < count; ++i) {
    Complex one = 0, other = 0;
    for (Index j = 0; j < size; ++j) {
      one += product_of(turn(i, j), x(j));
      other += product_of(turn(i, j), y(j));
    }
    right(i) = std::abs(one);
    left(i) = std::abs(other);
  }
  double sum = 0;
  for (Index j = 0; j < count; ++j)
    for (Index i = 0; i < count; ++i) {
      const double a = balanced_(state(i), state(j));
      sum += left(i) * right(j) * (std::abs(again(i, j) - a) + epsilon_of<double> * std::abs(a));
    }
  return sum;
}

SSM_INLINE bool SchurForm::stable(Time time, Index i) const {
  const std::complex<double> lambda = form_.T(i, i);
  const auto inside = [&](double doubt) {
    return time == Time::continuous ? lambda.real() < -doubt : std::abs(lambda) + doubt < 1;
  };
  return inside(8 * error(i)) || (inside(0) && inside(4 * doubt(i)));
}

SSM_INLINE bool SchurForm::stable(Time time) const {
  for (Index i = 0; i < form_.T.rows(); ++i)
    if (!stable(time, i)) return false;
  return true;
}

/// Throws DomainError when two eigenvalues cancel to working precision.
SSM_INLINE void check_unique_solution(std::string_view function, Time time,
                                      const SchurForm& schur) {
  const ComplexMatrix& T = schur.T();
  for (Index k = 0; k < T.rows(); ++k)
    for (Index i = 0; i <= k; ++i) {
      const bool continuous = time == Time::continuous;
      const double one = continuous ? 1 : std::abs(T(k, k));
      const double other = continuous ? 1 : std::abs(T(i, i));
      const double gap = continuous ? std::abs(T(i, i) + std::conj(T(k, k)))
                                    : std::abs(1.0 - T(i, i) * std::conj(T(k, k)));
      if (gap > one * schur.error(i) + other * schur.error(k)) continue;
      if (gap > one * schur.doubt(i) + other * schur.doubt(k)) continue;
      throw_domain(
          function, "an eigenvalue of A",
          continuous ? "the negative of another" : "the reciprocal of another",
          continuous ? "no two eigenvalues that add up to 0" : "no two whose product is 1");
    }
}

/// Solves A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0 for a balanced A given in Schur form, column by
/// column from the last.
SSM_INLINE RealMatrix solve_in_schur_form(Time time, const SchurForm& schur, const RealMatrix& Q) {
  using Complex = std::complex<double>;
  const Index n = Q.rows();
  const ComplexMatrix &T = schur.T(), &U = schur.U(), U_adjoint = adjoint(U);
  ComplexMatrix Y = U_adjoint * to_complex(Q) * U;
  ComplexVector known(n);
  for (Index k = n; k-- > 0;) {
    const Complex lambda = std::conj(T(k, k));
    for (Index i = 0; i < n; ++i) known(i) = 0;
    for (Index j = k + 1; j < n; ++j)
      for (Index i = 0; i < n; ++i) known(i) += product_of(Y(i, j), std::conj(T(k, j)));
    if (time == Time::discrete)
      for (Index i = 0; i < n; ++i) {  // known ← T known, from the top as T is triangular
        Complex sum = 0;
        for (Index j = i; j < n; ++j) sum += product_of(T(i, j), known(j));
        known(i) = sum;
      }
    for (Index i = 0; i < n; ++i) Y(i, k) += known(i);
    const Complex factor = time == Time::continuous ? Complex(-1) : -lambda;
    const Complex shift = time == Time::continuous ? -lambda : Complex(1);
    for (Index j = n; j-- > 0;) {
      const Complex y = Y(j, k) /= product_of(factor, T(j, j)) + shift;
      const Complex weight = product_of(factor, y);
      for (Index i = 0; i < j; ++i) Y(i, k) -= product_of(T(i, j), weight);
    }
  }
  return real_part(U * Y * U_adjoint);
}

/// A X + X Aᵀ + Q or A X Aᵀ − X + Q.
SSM_INLINE RealMatrix lyapunov_residual(Time time, const RealMatrix& A, const RealMatrix& X,
                                        const RealMatrix& Q) {
  if (time == Time::continuous) return A * X + X * A.transpose() + Q;
  return A * X * A.transpose() - X + Q;
}

SSM_INLINE RealMatrix solve_lyapunov(std::string_view function, Time time, RealMatrix matrix,
                                     const RealMatrix& Q) {
  if (!Q.all_finite()) throw_domain(function, "Q", "not finite", "finite");
  const SchurForm schur(function, std::move(matrix));
  check_unique_solution(function, time, schur);
  const RealMatrix& A = schur.balanced();
  const RealVector &scale = schur.scale(), inverse = inverse_of(scale);
  const RealMatrix F = scale_columns(scale_rows(inverse, Q), inverse);
  RealMatrix X = solve_in_schur_form(time, schur, F);
  X += solve_in_schur_form(time, schur, lyapunov_residual(time, A, X, F));
  if (Q == Q.transpose()) X = symmetric_part(X);
  return scale_columns(scale_rows(scale, X), scale);
}

SSM_END_COMPILED
