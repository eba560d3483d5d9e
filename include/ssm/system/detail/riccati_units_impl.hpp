#pragma once

#include <algorithm>
#include <cmath>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/padded.hpp"
#include "ssm/system/detail/riccati_equation.hpp"

SSM_BEGIN_COMPILED

/// Powers of two in which the states and inputs of a Riccati equation are counted: x = S z, u = U
/// v.
struct RiccatiUnits {
  RealVector states, inputs;
};

/// Units that follow from the data alone: whatever units the data come in, the equation in these is
/// the same, bit for bit. An input is counted so that it costs about 1; a state so that the largest
/// of what leads to it from states and inputs that have their units is about 1, or where nothing
/// does, so that it costs about 1.
template <class Matrix>
class RiccatiUnitsFinder {
 public:
  RiccatiUnitsFinder(const Matrix& A, const Matrix& B, const Matrix& Q, const Matrix& R)
      : A_(A), B_(B), states_(A.rows()), inputs_(B.cols()) {
    for (Index i = 0; i < A_.rows(); ++i) states_(i) = {0, false};
    for (Index j = 0; j < B_.cols(); ++j) inputs_(j) = {0, false};
    for (Index j = 0; j < B_.cols(); ++j)
      if (R(j, j) > 0) set(inputs_, j, cost_unit(R(j, j)));
    spread();
    for (Index i = 0; i < A_.rows(); ++i)
      if (Q(i, i) > 0 && !known(states_, i)) {
        set(states_, i, cost_unit(Q(i, i)));
        spread();
      }
    for (Index i = 0; i < A_.rows(); ++i)
      if (!known(states_, i)) {
        set(states_, i, 0);
        spread();
      }
  }

  [[nodiscard]] double state(Index i) const { return power(states_(i).exponent); }
  [[nodiscard]] double input(Index j) const {
    return known(inputs_, j) ? power(inputs_(j).exponent) : 1;
  }

 private:
  struct Unit {
    int exponent;
    bool known;
  };
  using Units = ShortVector<Unit>;

  static bool known(const Units& units, Index i) { return units(i).known; }
  static int exponent(const Units& units, Index i) { return units(i).exponent; }
  static void set(Units& units, Index i, int value) { units(i) = {value, true}; }
  static double power(int exponent) {
    constexpr int most = 1000;  // beyond that the numbers of the data are none that double holds
    return std::ldexp(1.0, std::clamp(exponent, -most, most));
  }
  /// The unit 2^k of which q 4^k is from 1 to 4.
  static int cost_unit(double q) {
    const int e = std::ilogb(q);
    return -((e - (e & 1)) / 2);
  }

  /// Gives units to all that is connected with what has them.
  void spread() {
    const Index n = A_.rows(), m = B_.cols();
    for (bool found = true; found;) {
      found = false;
      for (Index i = 0; i < n; ++i) {
        if (known(states_, i)) continue;
        bool any = false;
        int best = 0;
        const auto offer = [&](int value) {
          best = any ? (std::max)(best, value) : value;
          any = true;
        };
        for (Index j = 0; j < m; ++j)
          if (B_(i, j) != 0 && known(inputs_, j))
            offer(std::ilogb(B_(i, j)) + exponent(inputs_, j));
        for (Index j = 0; j < n && !any; ++j)
          if (A_(i, j) != 0 && known(states_, j))
            offer(std::ilogb(A_(i, j)) + exponent(states_, j));
        for (Index j = 0; j < n && !any; ++j)
          if (A_(j, i) != 0 && known(states_, j))
            offer(exponent(states_, j) - std::ilogb(A_(j, i)));
        if (any) set(states_, i, best);
        found = found || any;
      }
      for (Index j = 0; j < m; ++j)
        for (Index i = 0; i < n && !known(inputs_, j); ++i)
          if (B_(i, j) != 0 && known(states_, i)) {
            set(inputs_, j, exponent(states_, i) - std::ilogb(B_(i, j)));
            found = true;
          }
    }
  }

  const Matrix &A_, &B_;
  Units states_, inputs_;
};

/// Puts an equation into units of its own, in which A is balanced too: A ← S⁻¹AS, B ← S⁻¹BU,
/// Q ← SQS, R ← URU, N ← SNU, for which P ← SPS and K ← U⁻¹KS.
SSM_INLINE RiccatiUnits into_own_units(RiccatiEquation& equation) {
  auto& [time, A, B, Q, R, N, singular] = equation;
  RiccatiUnits units{RealVector(A.rows()), RealVector(B.cols())};
  const RiccatiUnitsFinder found(A, B, Q, R);
  for (Index i = 0; i < A.rows(); ++i) units.states(i) = found.state(i);
  for (Index j = 0; j < B.cols(); ++j) units.inputs(j) = found.input(j);
  A = scale_columns(scale_rows(inverse_of(units.states), A), units.states);
  const RealVector balanced = balance(A);
  for (Index i = 0; i < A.rows(); ++i) units.states(i) *= balanced(i);
  B = scale_columns(scale_rows(inverse_of(units.states), B), units.inputs);
  Q = scale_columns(scale_rows(units.states, Q), units.states);
  R = scale_columns(scale_rows(units.inputs, R), units.inputs);
  N = scale_columns(scale_rows(units.states, N), units.inputs);
  return units;
}

SSM_END_COMPILED
