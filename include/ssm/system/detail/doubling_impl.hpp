#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "ssm/core/balance.hpp"
#include "ssm/system/detail/doubling.hpp"
#include "ssm/system/detail/riccati_units_impl.hpp"

SSM_BEGIN_COMPILED

/// Corrections that are so small beside what they correct leave an error below rounding: of a
/// linear equation what the doublings of the correction leave out, of one of Riccati its square.
inline constexpr double last_linear_correction = 0x1p-26, last_correction = 0x1p-28;
inline constexpr int most_corrections = 3, most_doublings = 10;

/// True when every element of a correction is within so much of the diagonal elements of its row
/// and column of X, which are positive.
SSM_INLINE bool is_last_correction(const Padded& correction, const Padded& X, double most) {
  const Index n = X.rows();
  ShortVector<double> unit(n);
  for (Index i = 0; i < n; ++i) {
    if (!(X(i, i) > 0)) return false;
    unit(i) = 1 / std::sqrt(X(i, i));
  }
  double off = 0;
  for (Index j = 0; j < n; ++j) {
    double column = 0;
    for (Index i = 0; i < n; ++i) {
      const double x = correction(i, j) * unit(i);
      column += x * x;
    }
    off += column * unit(j) * unit(j);
  }
  return off <= most * most;
}

/// The sum with its transpose added.
SSM_INLINE void add_transpose(const PaddedSum& sum, Workspace work) {
  const Index n = sum.high.rows();
  const Padded high = work.matrix(n, n), low = work.matrix(n, n);
  put_transpose(high, sum.high);
  put_transpose(low, sum.low);
  add_exactly(sum, 1, high);
  add_multiple(sum.low, 1, low);
}

/// What makes a Stein equation X = C X Cᵀ + D of A X + X Aᵀ + Q = 0: C = I + 2 shift F and
/// D = 2 shift F Q Fᵀ with F = (A − shift I)⁻¹. False where there is no F.
SSM_INLINE bool to_stein(const Padded& A, double shift, const Padded& C, const Padded& F) {
  put_copy(F, A);
  add_to_diagonal(F, -shift);
  if (!invert(F)) return false;
  std::fill_n(C.data(), C.size(), 0.0);
  add_to_diagonal(C, 1);
  add_multiple(C, 2 * shift, F);
  return true;
}

/// X ← 2 shift F Q Fᵀ.
SSM_INLINE void start_of_stein(const Padded& F, double shift, const Padded& Q, const Padded& X,
                               Workspace work) {
  const Padded half = work.matrix(Q.rows(), Q.cols());
  put_product(half, false, 2 * shift, F, Q);
  put_product(X, false, 1, half, F, Turned::yes);
}

/// X ← X + C X Cᵀ.
SSM_INLINE void double_stein(const Padded& C, const Padded& X, Workspace work) {
  const Padded half = work.matrix(X.rows(), X.cols());
  put_product(half, false, 1, C, X);
  put_product(X, true, 1, half, C, Turned::yes);
}

/// True where further doublings change less than a correction does.
SSM_INLINE bool is_last_doubling(const Padded& C) { return sum_of_squares(C) <= 0x1p-14; }

SSM_INLINE bool lyapunov_by_doubling(Time time, const Padded& A, const Padded& Q, const Padded& X,
                                     Workspace work) {
  const Index n = A.rows();
  if (n == 0) return false;
  const bool continuous = time == Time::continuous;
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < j; ++i)
      if (!(Q(i, j) == Q(j, i))) return false;
  Padded balanced = A;
  const ShortVector<double> scale = balance_in_own_units(balanced);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) Q(i, j) = Q(i, j) / scale(i) / scale(j);

  const Padded F = work.matrix(n, n);
  std::array<Padded, most_doublings> C;
  C[0] = work.matrix(n, n);
  double shift = 0;
  if (continuous) {
    put_copy(F, A);
    if (!invert(F)) return false;
    shift = std::sqrt(std::sqrt(sum_of_squares(A) / sum_of_squares(F)));  // amid the eigenvalues
    if (!to_stein(A, shift, C[0], F)) return false;
  } else {
    put_copy(C[0], A);
  }
  std::size_t count = 1;
  for (; !is_last_doubling(C[count - 1]); ++count) {
    if (count == C.size()) return false;
    C[count] = work.matrix(n, n);
    put_product(C[count], false, 1, C[count - 1], C[count - 1]);
  }
  const auto solve = [&](const Padded& known, const Padded& result) {
    if (continuous)
      start_of_stein(F, shift, known, result, work);
    else
      put_copy(result, known);
    for (std::size_t k = 0; k < count; ++k) double_stein(C[k], result, work);
    make_symmetric(result);
  };
  solve(Q, X);
  const Padded correction = work.matrix(n, n), right = work.matrix(n, n);
  for (int turn = 0; turn < most_corrections; ++turn) {
    Workspace here = work;
    const PaddedSum product = zero_sum(n, n, here);
    add_exactly(product, 1, A, X);
    PaddedSum residual = product;
    if (continuous) {
      add_transpose(residual, here);
    } else {
      residual = zero_sum(n, n, here);
      add_exactly(residual, 1, product, A, Turned::yes);
      add_exactly(residual, -1, X);
    }
    add_exactly(residual, 1, Q);
    put_copy(right, residual.high);
    add_multiple(right, 1, residual.low);
    solve(right, correction);
    const bool last = is_last_correction(correction, X, last_linear_correction);
    add_multiple(X, 1, correction);
    if (!last) continue;
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < n; ++i) X(i, j) = X(i, j) * scale(i) * scale(j);
    return is_number(X);
  }
  return false;
}

/// Makes a matrix symmetric that is so to some roundings.
SSM_INLINE bool settle_symmetry(const Padded& A, double epsilon) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < j; ++i) {
      const double size = (std::max)(std::abs(A(i, j)), std::abs(A(j, i)));
      if (!(std::abs(A(i, j) - A(j, i)) <= 4 * epsilon * size)) return false;
    }
  make_symmetric(A);
  return true;
}

/// The equation AᵀP + PA − PGP + H = 0 as one in discrete time, by Cayley's transform, in the terms
/// of stabilize_by_doubling: Chu, Fan & Lin (2005), eq. 2.8. False where there is none for `shift`.
SSM_INLINE bool to_discrete_riccati(const Padded& A, const Padded& G, const Padded& H, double shift,
                                    Workspace work) {
  const Index n = A.rows();
  const Padded F = work.matrix(n, n), V = work.matrix(n, n), GF = work.matrix(n, n),
               turned = work.matrix(n, n), HF = work.matrix(n, n);
  add_to_diagonal(A, -shift);
  put_copy(F, A);
  if (!invert(F)) return false;
  put_product(GF, false, 1, G, F, Turned::yes);  // G (A − shift I)⁻ᵀ
  put_copy(V, A);
  put_product(V, true, 1, GF, H);
  if (!invert(V)) return false;
  put_product(HF, false, 1, H, F);
  put_transpose(turned, V);
  put_product(H, false, 2 * shift, turned, HF);
  put_transpose(turned, GF);
  put_product(G, false, 2 * shift, turned, V, Turned::yes);
  std::fill_n(A.data(), A.size(), 0.0);
  add_to_diagonal(A, 1);
  add_multiple(A, 2 * shift, V);
  return true;
}

/// H ← a P of AᵀPA − P − AᵀPG(I + PG)⁻¹PA + H = 0 by structured doubling: Chu, Fan, Lin & Wang
/// (2004), algorithm SDA. False when it does not settle.
SSM_INLINE bool stabilize_by_doubling(const Padded& A, const Padded& G, const Padded& H,
                                      Workspace work) {
  constexpr double settled = 0x1p-15;  // the next change is about the square of that
  const Index n = A.rows();
  const Padded M = work.matrix(n, n), MA = work.matrix(n, n), half = work.matrix(n, n),
               turned = work.matrix(n, n), change = work.matrix(n, n);
  for (int turn = 0; turn < most_doublings; ++turn) {
    put_product(M, false, 1, G, H);
    add_to_diagonal(M, 1);
    if (!invert(M)) return false;
    put_product(MA, false, 1, M, A);  // (I + GH)⁻¹ A
    put_product(half, false, 1, H, MA);
    put_transpose(turned, A);
    put_product(change, false, 1, turned, half);
    add_multiple(H, 1, change);
    const double size = sum_of_squares(H);
    if (!std::isfinite(size)) return false;
    if (sum_of_squares(change) <= settled * settled * size) {
      make_symmetric(H);
      return true;
    }
    put_product(half, false, 1, M, G);
    put_product(change, false, 1, A, half);
    put_product(G, true, 1, change, A, Turned::yes);
    put_product(half, false, 1, A, MA);
    put_copy(A, half);
  }
  return false;
}

/// X ← the solution of A X + X Aᵀ + Q = 0 or A X Aᵀ − X + Q = 0, roughly. False for an A that is
/// not stable or slow.
SSM_INLINE bool solve_stein(Time time, const Padded& A, double shift, const Padded& Q,
                            const Padded& X, Workspace work) {
  const Index n = A.rows();
  Padded C = work.matrix(n, n), next = work.matrix(n, n);
  if (time == Time::continuous) {
    if (!to_stein(A, shift, C, next)) return false;
    start_of_stein(next, shift, Q, X, work);
  } else {
    put_copy(C, A);
    put_copy(X, Q);
  }
  for (int turn = 0; turn < most_doublings; ++turn) {
    double_stein(C, X, work);
    if (is_last_doubling(C)) {
      make_symmetric(X);
      return true;
    }
    put_product(next, false, 1, C, C);
    std::swap(C, next);
  }
  return false;
}

/// Corrections of a P until they are small, and the gain of the last.
class RiccatiCorrector {
 public:
  RiccatiCorrector(const PaddedRiccati& equation, const Padded& inverse_of_R, double shift,
                   Workspace work)
      : equation_(equation), inverse_of_R_(inverse_of_R), shift_(shift), work_(work) {}

  /// P ← P corrected, K of it transposed (states, inputs).
  [[nodiscard]] bool correct(const Padded& K) const {
    const Padded& P = equation_.P;
    Workspace work = work_;
    const Padded correction = work.matrix(P.rows(), P.cols());
    for (int turn = 0; turn < most_corrections; ++turn) {
      bool last = false;
      if (!correct_once(K, correction, last, work)) return false;
      add_multiple(P, 1, correction);
      if (last) return true;
    }
    return false;
  }

 private:
  [[nodiscard]] bool continuous() const { return equation_.time == Time::continuous; }

  /// The correction of P; where it is the last, K of the P corrected.
  [[nodiscard]] bool correct_once(const Padded& K, const Padded& correction, bool& last,
                                  Workspace work) const {
    const auto& [time, A, B, Q, R, N, P, unused] = equation_;
    const Index n = A.rows(), m = B.cols();
    const Padded turned = work.matrix(n, n), residual = work.matrix(n, n), PB = work.matrix(n, m),
                 divisor = work.matrix(m, m);
    // K = S⁻¹ (Bᵀ P + Nᵀ) with S = R, or S⁻¹ (Bᵀ P A + Nᵀ) with S = R + Bᵀ P B
    put_product(PB, false, 1, P, B);
    if (continuous()) {
      put_copy(divisor, inverse_of_R_);
    } else {
      const Padded across = work.matrix(m, n), seen = work.matrix(n, m);
      put_transpose(across, B);
      put_copy(divisor, R);
      put_product(divisor, true, 1, across, PB);
      if (!invert(divisor, false)) return false;
      put_transpose(turned, A);
      put_product(seen, false, 1, turned, PB);
      put_copy(PB, seen);
    }
    if (N.size() > 0) add_multiple(PB, 1, N);
    put_product(K, false, 1, PB, divisor);

    // The equation of the cost of this K, which does not feel what is off in it to first order:
    // Aᵀ P + P A + Kᵀ R K − N K − Kᵀ Nᵀ + Q or the same in discrete time, of A − B K.
    const PaddedSum closed = zero_sum(n, n, work), cost = zero_sum(n, m, work),
                    carried = zero_sum(n, n, work);
    put_copy(closed.high, A);
    add_exactly(closed, -1, B, K, Turned::yes);
    add_exactly(cost, 0.5, K, R);
    if (N.size() > 0) add_exactly(cost, -1, N);
    add_exactly(carried, 1, P, closed.high);
    put_product(carried.low, true, 1, P, closed.low);
    put_transpose(turned, closed.high);
    {
      Workspace here = work;
      const PaddedSum sum = zero_sum(n, n, here);
      if (continuous()) {
        put_copy(sum.high, carried.high);
        put_copy(sum.low, carried.low);
      }
      add_exactly(sum, 1, cost, K, Turned::yes);
      add_transpose(sum, here);
      if (!continuous()) {
        const Padded turned_low = here.matrix(n, n);
        put_transpose(turned_low, closed.low);
        add_exactly(sum, 1, turned, carried.high);
        put_product(sum.low, true, 1, turned, carried.low);
        put_product(sum.low, true, 1, turned_low, carried.high);
        add_exactly(sum, -1, P);
      }
      add_exactly(sum, 1, Q);
      put_copy(residual, sum.high);
      add_multiple(residual, 1, sum.low);
    }
    if (!solve_stein(time, turned, shift_, residual, correction, work)) return false;
    // beside P in every direction, as one of Riccati is not linear
    put_copy(residual, P);
    last = is_last_correction(correction, P, last_correction * least_pivot(residual));
    return !last || correct_gain(K, correction, turned, carried, divisor, work);
  }

  /// K ← K + S⁻¹ of what is left of (Bᵀ P + Nᵀ) − R K, or of Bᵀ P (A − B K) + Nᵀ − R K.
  [[nodiscard]] bool correct_gain(const Padded& K, const Padded& correction, const Padded& turned,
                                  const PaddedSum& carried, const Padded& divisor,
                                  Workspace work) const {
    const auto& [time, A, B, Q, R, N, P, unused] = equation_;
    const Index n = A.rows(), m = B.cols();
    const PaddedSum rest = zero_sum(n, m, work);
    const Padded moved = work.matrix(n, m);
    put_product(moved, false, 1, correction, B);
    if (continuous()) {
      add_exactly(rest, 1, P, B);
      add_multiple(rest.low, 1, moved);
    } else {
      const Padded high = work.matrix(n, n), low = work.matrix(n, n);
      put_transpose(high, carried.high);
      put_transpose(low, carried.low);
      add_exactly(rest, 1, PaddedSum{high, low}, B);
      put_product(rest.low, true, 1, turned, moved);
    }
    if (N.size() > 0) add_exactly(rest, 1, N);
    add_exactly(rest, -1, K, R);
    add_multiple(rest.high, 1, rest.low);
    put_product(moved, false, 1, rest.high, divisor);
    for (Index j = 0; j < m; ++j) {
      double off = 0, size = 0;  // in units of states in which each costs 1
      for (Index i = 0; i < n; ++i) {
        off += moved(i, j) * moved(i, j) / P(i, i);
        size += K(i, j) * K(i, j) / P(i, i);
      }
      if (!(off <= last_correction * last_correction * size)) return false;
    }
    add_multiple(K, 1, moved);
    return true;
  }

  const PaddedRiccati& equation_;
  Padded inverse_of_R_;
  double shift_;
  Workspace work_;
};

SSM_INLINE bool riccati_by_doubling(const RiccatiCaller& caller, const PaddedRiccati& equation,
                                    Workspace work) {
  constexpr double rounding = 4 * std::numeric_limits<double>::epsilon();
  const auto& [time, A, B, Q, R, N, P, K] = equation;
  const Index n = A.rows(), m = B.cols();
  if (n == 0 || m == 0) return false;
  if (!settle_symmetry(Q, caller.epsilon) || !settle_symmetry(R, caller.epsilon)) return false;
  if (!is_number(A) || !is_number(B) || !is_number(Q) || !is_number(R)) return false;

  // into own units, as into_own_units
  ShortVector<double> state(n), input(m);
  {
    const RiccatiUnitsFinder found(A, B, Q, R);
    for (Index i = 0; i < n; ++i) state(i) = found.state(i);
    for (Index j = 0; j < m; ++j) input(j) = found.input(j);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < n; ++i) A(i, j) = A(i, j) / state(i) * state(j);
    Padded balanced = A;
    const ShortVector<double> more = balance(balanced);
    for (Index i = 0; i < n; ++i) state(i) *= more(i);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < n; ++i) Q(i, j) = Q(i, j) * state(i) * state(j);
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i) {
        B(i, j) = B(i, j) / state(i) * input(j);
        if (N.size() > 0) N(i, j) = N(i, j) * state(i) * input(j);
      }
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < m; ++i) R(i, j) = R(i, j) * input(i) * input(j);
  }

  const Padded inverse_of_R = work.matrix(m, m), dynamics = work.matrix(n, n),
               G = work.matrix(n, n), trial = work.matrix(n, n), BR = work.matrix(n, m);
  put_copy(inverse_of_R, R);
  if (!(least_pivot(inverse_of_R) >= 0x1p-20)) return false;
  put_copy(inverse_of_R, R);
  if (!invert(inverse_of_R, false)) return false;
  put_product(BR, false, 1, B, inverse_of_R);
  put_product(G, false, 1, BR, B, Turned::yes);
  put_copy(dynamics, A);
  put_copy(P, Q);
  double margin = rounding * std::sqrt(sum_of_squares(Q)) + (std::numeric_limits<double>::min)();
  if (N.size() > 0) {  // as an equation of u + R⁻¹ Nᵀ x
    margin = -margin;
    put_product(dynamics, true, -1, BR, N, Turned::yes);
    put_product(BR, false, 1, N, inverse_of_R);
    put_product(P, true, -1, BR, N, Turned::yes);
  }
  put_copy(trial, P);
  add_to_diagonal(trial, margin);
  if (!(least_pivot(trial) > 0)) return false;  // a cost that may have to be refused

  double shift = 0;
  if (time == Time::continuous) {
    const double around = std::sqrt(sum_of_squares(G) * sum_of_squares(P));
    shift = std::sqrt((sum_of_squares(dynamics) + around) / static_cast<double>(n));
    if (!(shift > 0) || !to_discrete_riccati(dynamics, G, P, shift, work)) return false;
  }
  if (!stabilize_by_doubling(dynamics, G, P, work)) return false;
  const Padded gain = work.matrix(n, m);
  if (!RiccatiCorrector(equation, inverse_of_R, shift, work).correct(gain)) return false;
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < n; ++i) P(i, j) = P(i, j) / state(i) / state(j);
    for (Index i = 0; i < m; ++i) K(i, j) = input(i) * gain(j, i) / state(j);
  }
  return is_number(P) && is_number(K);
}

SSM_INLINE bool gain_of_filter(const Padded& P, const Padded& C, const Padded& R, const Padded& K,
                               Workspace work) {
  const Index n = P.rows(), p = C.rows();
  const PaddedSum PC = zero_sum(n, p, work), S = zero_sum(p, p, work), rest = zero_sum(n, p, work);
  const Padded inverse = work.matrix(p, p), moved = work.matrix(n, p);
  add_exactly(PC, 1, P, C, Turned::yes);
  put_copy(S.high, R);
  add_exactly(S, 1, C, PC.high);
  put_product(S.low, true, 1, C, PC.low);
  put_copy(inverse, S.high);
  if (!invert(inverse, false)) return false;
  put_product(K, false, 1, PC.high, inverse);
  put_copy(rest.high, PC.high);
  put_copy(rest.low, PC.low);
  add_exactly(rest, -1, K, S.high);
  put_product(rest.low, true, -1, K, S.low);
  add_multiple(rest.high, 1, rest.low);
  put_product(moved, false, 1, rest.high, inverse);
  for (Index j = 0; j < p; ++j) {
    double off = 0, size = 0;
    for (Index i = 0; i < n; ++i) {
      if (!(P(i, i) > 0)) return false;
      off += moved(i, j) * moved(i, j) / P(i, i);
      size += K(i, j) * K(i, j) / P(i, i);
    }
    if (!(off <= last_correction * last_correction * size)) return false;
  }
  add_multiple(K, 1, moved);
  return is_number(K);
}

SSM_END_COMPILED
