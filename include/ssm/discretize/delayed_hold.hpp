#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// A delay as whole steps and the part of one that is left, 0 ≤ rest < 1. What rounding leaves of a
/// whole step is none.
struct StepsAndRest {
  Index steps;
  double rest;

  StepsAndRest(double delay, double delta, double epsilon) {
    const double ratio = delay / delta, nearest = std::round(ratio);
    const bool whole = std::abs(ratio - nearest) <= 8 * epsilon * (std::max)(1.0, ratio);
    const double below = whole ? nearest : std::floor(ratio);
    steps = static_cast<Index>(below);
    rest = whole ? 0 : ratio - below;
  }
};

/// The matrices of a sampled system.
struct SampledMatrices {
  RealMatrix A, B, C, D;
};

/// zero_order_hold of a DelayedSystem. A template, of Eigen::MatrixXd, so that only a program that
/// asks for it compiles it.
template <class Matrix>
SampledMatrices hold_with_delays(const RealMatrix& A, const RealMatrix& B, const RealMatrix& C,
                                 const RealMatrix& D, double h,
                                 const std::vector<StepsAndRest>& ins,
                                 const std::vector<StepsAndRest>& outs, double epsilon) {
  const Index n = A.rows(), m = D.cols(), p = D.rows();
  const auto at = [](const auto& values, Index i) -> const auto& {
    return values[static_cast<std::size_t>(i)];
  };
  // Past values u_{t−1}, u_{t−2}, … of each input, and past samples of each output.
  std::vector<Index> first_in, first_out;
  Index states = n;
  const auto length = [](const StepsAndRest& part) { return part.steps + (part.rest > 0 ? 1 : 0); };
  for (const StepsAndRest& part : ins) {
    first_in.push_back(states);
    states += length(part);
  }
  for (const StepsAndRest& part : outs) {
    first_out.push_back(states);
    states += length(part);
  }
  SampledMatrices result{{states, states}, {states, m}, {p, states}, {p, m}};

  // Adds weight · u_{t−back} of input i to a row.
  const auto add_input = [&](RealMatrix& of_states, RealMatrix& of_inputs, Index row, Index i,
                             Index back, double weight) {
    if (back == 0)
      of_inputs(row, i) += weight;
    else
      of_states(row, at(first_in, i) + back - 1) += weight;
  };
  // e^{sA} and ∫₀^s e^{σA} dσ B for a share s of the step.
  struct Held {
    RealMatrix E, F;
  };
  const auto held_for = [&](double share) {
    Matrix E = to_eigen<Matrix>((share * h) * A), F = to_eigen<Matrix>((share * h) * B);
    hold_in_place(E, F);
    Held held{RealMatrix(E), RealMatrix(F)};
    if ((!held.E.all_finite() || !held.F.all_finite()) && A.all_finite() && B.all_finite())
      throw_domain("zero_order_hold", "e^(delta A) with delta = " + detail::number(share * h),
                   "not finite", "a delta over which the system does not overflow");
    return held;
  };
  // Adds rows · x a share of a step after the sample; inputs change where their delays end.
  const auto add_state = [&](RealMatrix& of_states, RealMatrix& of_inputs, Index row,
                             const RealMatrix& rows, double share) {
    const Held held = held_for(share);
    const RealMatrix free = rows * held.E, whole = rows * held.F;
    for (Index j = 0; j < n; ++j)
      for (Index k = 0; k < rows.rows(); ++k) of_states(row + k, j) += free(k, j);
    for (Index i = 0; i < m; ++i) {  // u_{t−d−1} acts until rest, u_{t−d} from there on
      const StepsAndRest& part = at(ins, i);
      const bool split = part.rest > 0;
      RealMatrix late(rows.rows(), m);
      if (share > part.rest) late = split ? rows * held_for(share - part.rest).F : whole;
      for (Index k = 0; k < rows.rows(); ++k) {
        add_input(of_states, of_inputs, row + k, i, part.steps, late(k, i));
        if (split)
          add_input(of_states, of_inputs, row + k, i, part.steps + 1, whole(k, i) - late(k, i));
      }
    }
  };

  add_state(result.A, result.B, 0, RealMatrix::Identity(n, n), 1);
  const auto remember = [&](Index first, Index count) {  // each step moves what is past by one
    for (Index k = 1; k < count; ++k) result.A(first + k, first + k - 1) = 1;
  };
  for (Index i = 0; i < m; ++i) {
    remember(at(first_in, i), length(at(ins, i)));
    if (length(at(ins, i)) > 0) result.B(at(first_in, i), i) = 1;
  }
  for (Index j = 0; j < p; ++j) {
    const StepsAndRest& part = at(outs, j);
    const Index first = at(first_out, j), count = length(part);
    remember(first, count);
    if (count > 0) result.C(j, first + count - 1) = 1;
    // w_j of this step, at the sample or 1 − rest of a step later, goes into the row
    RealMatrix& of_states = count == 0 ? result.C : result.A;
    RealMatrix& of_inputs = count == 0 ? result.D : result.B;
    const Index row = count == 0 ? j : first;
    double share = part.rest > 0 ? 1 - part.rest : 0;
    for (const StepsAndRest& in : ins)  // times that differ by rounding are one
      if (std::abs(share - in.rest) <= 64 * epsilon) share = in.rest;
    add_state(of_states, of_inputs, row, C.block(j, 0, 1, n), share);
    for (Index i = 0; i < m; ++i)
      add_input(of_states, of_inputs, row, i, at(ins, i).steps + (share < at(ins, i).rest ? 1 : 0),
                D(j, i));
  }
  return result;
}

}  // namespace detail

/// The exact zero-order hold of a system with delays, whole steps or not: the sampled output for
/// inputs that change at the samples alone. Its states are those of the system, and of each input
/// and output as many past values as its delay needs. With an input delay (d + f) Δ, 0 ≤ f < 1, the
/// value of d + 1 steps ago acts during the first f Δ of a step and that of d steps ago during the
/// rest (Åström & Wittenmark, Computer-Controlled Systems, 3rd ed., section 3.2, the modified
/// z-transform); an output delay (e + g) Δ reads w at the time (1 − g) Δ within an earlier step.
///
/// @param delayed the system and its delays, at most 10⁴ steps in all
/// @param delta Δ, s
/// @return x, then past inputs, then past outputs; read before the step
/// @throws DomainError when Δ is not positive and finite, e^{ΔA} overflows, or the delays are
///   longer than 10⁴ steps in all
/// Cost: a zero_order_hold for each fraction of a step, and states² to write.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, M, P> zero_order_hold(
    const DelayedSystem<T, N, M, P>& delayed, std::type_identity_t<T> delta) {
  constexpr std::string_view function = "zero_order_hold";
  detail::check_sampling(function, delta);
  const double h = static_cast<double>(delta);
  constexpr double most = 1e4;  // states of a dense matrix of 0.8 GB
  double past = 0;
  const auto split = [&](const auto& delays) {
    std::vector<detail::StepsAndRest> parts;
    for (Index i = 0; i < delays.size(); ++i) {
      const double delay = static_cast<double>(delays(i));
      past += std::ceil(delay / h);
      if (!(past <= most))
        detail::throw_domain(function, "what the delays hold", detail::number(past) + " steps",
                             "at most 10^4 in all, as each is a state");
      parts.emplace_back(delay, h, detail::epsilon_of<T>);
    }
    return parts;
  };
  const auto& system = delayed.system();
  const auto held = detail::hold_with_delays<Eigen::MatrixXd>(
      detail::RealMatrix(system.A()), detail::RealMatrix(system.B()),
      detail::RealMatrix(system.C()), detail::RealMatrix(system.D()), h,
      split(delayed.input_delay()), split(delayed.output_delay()), detail::epsilon_of<T>);
  using Result = DiscreteStateSpace<T, Dynamic, M, P>;
  return Result(detail::to_eigen<typename Result::StateMatrix>(held.A),
                detail::to_eigen<typename Result::InputMatrix>(held.B),
                detail::to_eigen<typename Result::OutputMatrix>(held.C),
                detail::to_eigen<typename Result::FeedthroughMatrix>(held.D), delta);
}

}  // namespace ssm
