#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/detail/staircase.hpp"
#include "ssm/system/poles_zeros.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE ComplexVector eigenvalues_of(std::string_view function, RealMatrix A) {
  if (!A.all_finite()) throw_domain(function, "A", "not finite", "finite");
  return grouped_eigenvalues(function, std::move(A));
}

/// A system of numbers that are known only so well.
struct UncertainSystem {
  Uncertain A, B, C, D;

  [[nodiscard]] UncertainSystem dual() const {
    return {A.transpose(), C.transpose(), B.transpose(), D.transpose()};
  }
};

/// How many of D, CB, CAB, … of one input and one output are 0 before the first that is not, up to
/// errors: more than there are states where all are. One step after the other, each from small
/// numbers of the one before, loses this where the chain to the output is long.
SSM_INLINE Index relative_degree(const UncertainSystem& q) {
  const Index n = q.A.rows();
  const RealMatrix transposed = q.A.value.transpose(), weights = q.A.variance.transpose();
  // C A^k and A^k B, kept near 1 with their exponents apart, and what follows from their squares
  struct Power {
    RealMatrix value, weight;
    int exponent;
  };
  const auto power = [&](RealMatrix value, const RealMatrix* variances, int exponent) {
    const double size = value.norm();
    const int more = size > 0 ? std::ilogb(size) : 0;
    value *= std::ldexp(1.0, -more);
    RealMatrix squares = squares_of(value);
    if (variances) squares = *variances * squares;
    return Power{std::move(value), std::move(squares), exponent + more};
  };
  std::vector<Power> shown{power(q.C.value.transpose(), &weights, 0)};
  std::vector<Power> reached{power(q.B.value, nullptr, 0)};
  const auto dot = [&](const RealMatrix& x, const RealMatrix& y) {
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += x(i, 0) * y(i, 0);
    return sum;
  };
  if (std::abs(q.D.value(0, 0)) > rank_doubt * std::sqrt(q.D.variance(0, 0))) return 0;
  const RealMatrix output_variance = q.C.variance.transpose();
  for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) {  // C A^k B
    const Power &c = shown[k], &b = reached[k];
    double variance =
        dot(output_variance, b.weight) +
        std::ldexp(dot(squares_of(c.value), q.B.variance), 2 * (c.exponent - b.exponent));
    for (std::size_t i = 0; i < k; ++i)
      variance += std::ldexp(dot(shown[i].weight, reached[k - 1 - i].weight),
                             2 * (shown[i].exponent + reached[k - 1 - i].exponent - b.exponent));
    const double answer = dot(q.C.value.transpose(), b.value);
    if (std::abs(answer) > rank_doubt * std::sqrt(variance)) return static_cast<Index>(k) + 1;
    shown.push_back(power(transposed * c.value, &weights, c.exponent));
    reached.push_back(power(q.A.value * b.value, nullptr, b.exponent));
  }
  return n + 1;
}

/// Drops outputs and states until D has full row rank, keeping the finite zeros: Emami-Naeini &
/// Van Dooren (1982), algorithm REDUCE.
SSM_INLINE void reduce_to_full_row_rank(UncertainSystem& q) {
  const Index original = q.A.rows();
  const bool single = q.D.rows() == 1 && q.D.cols() == 1;
  const Index degree = single ? relative_degree(q) : 0;
  for (Index step = 0; q.D.rows() > 0; ++step) {
    const Index p = q.D.rows(), m = q.D.cols(), n = q.A.rows();
    auto [turn, rank] = row_space(q.D.transpose());  // turnᵀ D has its last rows 0
    if (single) rank = step < degree ? 0 : 1;
    if (rank == p) return;
    q.D = turn_rows(turn, q.D);
    q.C = turn_rows(turn, q.C);
    const Uncertain unfed = q.C.block(rank, 0, p - rank, n);  // outputs that no input reaches
    q.C = q.C.block(0, 0, rank, n);
    q.D = q.D.block(0, 0, rank, m);
    if (n == 0) return;
    auto [V, seen] = row_space(unfed);
    if (single && degree <= original) seen = 1;
    if (seen == 0) return;
    // the first `seen` of the states are what these outputs show
    const Uncertain A = turn_columns(turn_rows(V, q.A), V), B = turn_rows(V, q.B);
    const Uncertain C = turn_columns(q.C, V);
    const Index rest = n - seen;
    const auto above = [](const Uncertain& one, const Uncertain& other) {
      Uncertain both{RealMatrix(one.rows() + other.rows(), one.cols()),
                     RealMatrix(one.rows() + other.rows(), one.cols())};
      both.set_block(0, 0, one);
      both.set_block(one.rows(), 0, other);
      return both;
    };
    q.C = above(C.block(0, seen, rank, rest), A.block(0, seen, seen, rest));
    q.D = above(q.D, B.block(0, 0, seen, m));
    q.A = A.block(seen, seen, rest, rest);
    q.B = B.block(seen, 0, rest, m);
  }
}

SSM_INLINE Index normal_rank(Quadruple system, double error) {
  static_cast<void>(to_own_units(system));
  UncertainSystem q{Uncertain(std::move(system.A), error), Uncertain(std::move(system.B), error),
                    Uncertain(std::move(system.C), error), Uncertain(std::move(system.D), error)};
  reduce_to_full_row_rank(q);
  return q.D.rows();
}

/// The pencil of zeros loses those far beyond the rates of A, which a small D makes, and A − B D⁻¹ C
/// loses those far below the farthest: this takes the farther half, by order of size between the
/// two, from the latter.
SSM_INLINE void take_far_zeros(const UncertainSystem& q,
                               std::vector<std::complex<double>>& zeros) {
  constexpr double far_from_rate = 1e3;
  const RealMatrix inverse = q.A.value - q.B.value * DenseLu(q.D.value).solve(q.C.value);
  if (!inverse.all_finite()) return;
  const ComplexVector all = grouped_eigenvalues("zeros", inverse);
  std::vector<std::complex<double>> others(all.begin(), all.end());
  const auto by_size = [](const auto& one, const auto& other) {
    return std::abs(one) < std::abs(other);
  };
  std::stable_sort(others.begin(), others.end(), by_size);
  const double rate = q.A.value.norm(), farthest = std::abs(others.back());
  if (!(farthest > far_from_rate * rate)) return;
  std::stable_sort(zeros.begin(), zeros.end(), by_size);
  const double border = std::sqrt(rate) * std::sqrt(farthest);
  std::size_t near_ones = 0;
  while (std::abs(others[near_ones]) < border) ++near_ones;
  zeros.resize((std::min)(near_ones, zeros.size()));
  zeros.insert(zeros.end(), others.begin() + static_cast<std::ptrdiff_t>(zeros.size()),
               others.end());
}

SSM_INLINE ComplexVector zeros_of(std::string_view function, Quadruple system, double tolerance) {
  const double error = error_of_data(function, tolerance);
  if (!system.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  // Units of states, inputs and outputs move no zero.
  static_cast<void>(to_own_units(system));
  UncertainSystem q{Uncertain(std::move(system.A), error), Uncertain(std::move(system.B), error),
                    Uncertain(std::move(system.C), error), Uncertain(std::move(system.D), error)};
  reduce_to_full_row_rank(q);
  q = q.dual();
  reduce_to_full_row_rank(q);
  const Index n = q.A.rows(), m = q.D.rows();
  if (n == 0) return {};
  if (m == 0) return eigenvalues_of(function, q.A.value);

  // [C D] W = [0 R] leaves the pencil A_f − λ B_f, in which no D is inverted.
  RealMatrix outputs(m, n + m), states(n, n + m);
  outputs.set_block(0, 0, q.C.value);
  outputs.set_block(0, n, q.D.value);
  states.set_block(0, 0, q.A.value);
  states.set_block(0, n, q.B.value);
  const RealMatrix W = singular_values(outputs).V.block(0, m, n + m, n);
  std::vector<std::complex<double>> finite;
  if (!find_pencil_eigenvalues(states * W, W.block(0, 0, n, n), finite))
    throw_convergence(function, "the Schur form of the pencil", "not found", "one");
  take_far_zeros(q, finite);
  ComplexVector zeros(static_cast<Index>(finite.size()));
  std::copy(finite.begin(), finite.end(), zeros.data());
  return zeros;
}

/// A B, with the errors of both and of rounding.
SSM_INLINE Uncertain operator*(const Uncertain& A, const Uncertain& B) {
  constexpr double rounding = epsilon_of<double> * epsilon_of<double>;
  const RealMatrix a = squares_of(A.value), b = squares_of(B.value);
  return {A.value * B.value, (a + A.variance) * (B.variance + rounding * b) + A.variance * b};
}
SSM_INLINE Uncertain operator+(const Uncertain& A, const Uncertain& B) {
  return {A.value + B.value, A.variance + B.variance};
}

SSM_INLINE RealMatrix gain_at_rest(Quadruple system, Time time) {
  if (!system.all_finite()) throw_domain("dc_gain", "the system", "not finite", "finite");
  const Index n = system.A.rows();
  const Units units = to_own_units(system);
  const auto in_units = [&](RealMatrix gain) {
    return scale_rows(units.outputs, scale_columns(std::move(gain), inverse_of(units.inputs)));
  };
  const RealMatrix still = RealMatrix::Identity(n, n);
  RealMatrix sizes = moduli_of(system.A), change = system.A;
  if (time == Time::discrete) {
    sizes += still;
    change -= still;
  }
  if (const auto x = solve_invertible(change, system.B, std::move(sizes)))
    return in_units(system.D - system.C * *x);

  // What is at rest: columns that W turns to 0, and again in what is left, as long as there are
  // any.
  constexpr double error = epsilon_of<double>;
  Uncertain W(system.A, error), B(system.B, error), C(system.C, error);
  W.value = change;
  if (time == Time::discrete)
    for (Index i = 0; i < n; ++i) W.variance(i, i) += error * error;
  Index moving = n;
  while (moving > 0) {
    const auto [V, rank] = row_space(W.block(0, 0, moving, moving));
    if (rank == moving) break;
    W.set_block(0, 0, turn_rows(V, W.block(0, 0, moving, moving)));
    W.set_block(0, 0, turn_columns(W.block(0, 0, n, moving), V));
    W.value.set_block(0, rank, RealMatrix(moving, moving - rank));
    B.set_block(0, 0, turn_rows(V, B.block(0, 0, moving, B.cols())));
    C.set_block(0, 0, turn_columns(C.block(0, 0, C.rows(), moving), V));
    moving = rank;
  }
  // [R 0; L N] with a nilpotent N: z = x_n + Y x_r follows N alone when Y R − N Y + L = 0.
  const Index rest = n - moving, inputs = B.cols(), outputs = C.rows();
  const DenseLu R(W.value.block(0, 0, moving, moving));
  const Uncertain R_inverse(R.solve(RealMatrix::Identity(moving, moving)), error);
  const Uncertain L = W.block(moving, 0, rest, moving), N = W.block(moving, moving, rest, rest);
  const Uncertain B_r = B.block(0, 0, moving, inputs), C_n = C.block(0, moving, outputs, rest);
  Uncertain term = L * R_inverse, Y{-term.value, term.variance};
  for (Index k = 1; k < rest; ++k) {
    term = N * term * R_inverse;
    Y = Y + Uncertain{-term.value, term.variance};
  }
  const RealMatrix C_r = C.value.block(0, 0, outputs, moving) - C_n.value * Y.value;
  RealMatrix gain = system.D - C_r * R.solve(B_r.value);
  Uncertain grown = B.block(moving, 0, rest, inputs) + Y * B_r;
  for (Index k = 0; k < rest; ++k) {  // C_n N^k z / s^(k+1)
    const Uncertain part = C_n * grown;
    for (Index i = 0; i < gain.size(); ++i) {
      const double size = part.value.data()[i];
      if (std::abs(size) > rank_doubt * std::sqrt(part.variance.data()[i]))
        gain.data()[i] = std::copysign(std::numeric_limits<double>::infinity(), size);
    }
    grown = N * grown;
  }
  return in_units(std::move(gain));
}

SSM_END_COMPILED
