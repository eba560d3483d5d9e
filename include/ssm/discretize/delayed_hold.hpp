#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense.hpp"
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

}  // namespace detail

/// The exact zero-order hold of a system with delays, whole steps or not: the sampled output for
/// inputs that change at the samples alone. Its states are those of the system, and of each input
/// and output as many past values as its delay needs. With an input delay (d + f) Δ, 0 ≤ f < 1, the
/// value of d + 1 steps ago acts during the first f Δ of a step and that of d steps ago during the
/// rest (Åström & Wittenmark, Computer-Controlled Systems, 3rd ed., section 3.2, the modified
/// z-transform); an output delay (e + g) Δ reads w at the time (1 − g) Δ within an earlier step.
///
/// @param delayed the system and its delays; at most 10⁶ steps long
/// @param delta Δ, s
/// @return x, then past inputs, then past outputs; read before the step
/// @throws DomainError when Δ is not positive and finite, e^{ΔA} overflows, or a delay is longer
///   than 10⁶ steps
/// Cost: a zero_order_hold for each fraction of a step, and states² to write.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, Dynamic, M, P> zero_order_hold(
    const DelayedSystem<T, N, M, P>& delayed, std::type_identity_t<T> delta) {
  constexpr std::string_view function = "zero_order_hold";
  using Matrix = Eigen::MatrixXd;
  detail::check_sampling(function, delta);
  const auto& given = delayed.system();
  const StateSpace<double> system(
      given.A().template cast<double>(), given.B().template cast<double>(),
      given.C().template cast<double>(), given.D().template cast<double>());
  const Index n = system.states(), m = system.inputs(), p = system.outputs();
  const double h = static_cast<double>(delta);
  std::vector<detail::StepsAndRest> ins, outs;
  const auto split = [&](const auto& delays, auto& parts) {
    for (Index i = 0; i < delays.size(); ++i) {
      const double delay = static_cast<double>(delays(i));
      if (!(delay / h <= 1e6))
        detail::throw_domain(function, "a delay", std::to_string(delay / h) + " steps",
                             "at most 10^6");
      parts.emplace_back(delay, h, detail::epsilon_of<T>);
    }
  };
  split(delayed.input_delay(), ins);
  split(delayed.output_delay(), outs);

  // Past values u_{t−1}, u_{t−2}, … of each input, and past samples of each output.
  std::vector<Index> first_in(ins.size()), first_out(outs.size());
  Index states = n;
  const auto length = [](const detail::StepsAndRest& part) { return part.steps + (part.rest > 0); };
  for (std::size_t i = 0; i < ins.size(); ++i) {
    first_in[i] = states;
    states += length(ins[i]);
  }
  for (std::size_t j = 0; j < outs.size(); ++j) {
    first_out[j] = states;
    states += length(outs[j]);
  }
  Matrix A = Matrix::Zero(states, states), B = Matrix::Zero(states, m);
  Matrix C = Matrix::Zero(p, states), D = Matrix::Zero(p, m);

  // Adds weight · u_{t−back} of input i to a row.
  const auto add_input = [&](Matrix& of_states, Matrix& of_inputs, Index row, Index i, Index back,
                             double weight) {
    if (back == 0)
      of_inputs(row, i) += weight;
    else
      of_states(row, first_in[static_cast<std::size_t>(i)] + back - 1) += weight;
  };
  // The state `share` of a step after a sample: e^{sharehA} x + what the inputs have done.
  const auto held_for = [&](double share) {
    Matrix E = system.A() * (share * h), F = system.B() * (share * h);
    detail::hold_in_place(E, F);
    detail::check_held(function, system, share * h, E, F);
    return std::pair{E, F};
  };
  // Adds rows · x at that time to the rows of a target; inputs change where their delays end.
  const auto add_state = [&](Matrix& of_states, Matrix& of_inputs, Index row, const Matrix& rows,
                             double share) {
    const auto [E, F] = held_for(share);
    of_states.block(row, 0, rows.rows(), n) += rows * E;
    const Matrix whole = rows * F;
    for (Index i = 0; i < m; ++i) {
      const auto& part = ins[static_cast<std::size_t>(i)];
      // u_{t−d−1} acts until rest, u_{t−d} from there on
      Matrix late = Matrix::Zero(rows.rows(), 1);
      if (share > part.rest)
        late = part.rest > 0 ? Matrix(rows * held_for(share - part.rest).second.col(i))
                             : Matrix(whole.col(i));
      for (Index k = 0; k < rows.rows(); ++k) {
        const double early = part.rest > 0 ? whole(k, i) - late(k, 0) : 0;
        add_input(of_states, of_inputs, row + k, i, part.steps, late(k, 0));
        if (part.rest > 0) add_input(of_states, of_inputs, row + k, i, part.steps + 1, early);
      }
    }
  };
  // The same of D v, whose inputs are those of that very time.
  const auto add_direct = [&](Matrix& of_states, Matrix& of_inputs, Index row, Index output,
                              double share) {
    for (Index i = 0; i < m; ++i) {
      const auto& part = ins[static_cast<std::size_t>(i)];
      const Index back = part.steps + (share < part.rest ? 1 : 0);
      add_input(of_states, of_inputs, row, i, back, system.D()(output, i));
    }
  };

  add_state(A, B, 0, Matrix::Identity(n, n), 1);
  for (Index i = 0; i < m; ++i) {
    const Index first = first_in[static_cast<std::size_t>(i)];
    const Index count = length(ins[static_cast<std::size_t>(i)]);
    for (Index k = 0; k < count; ++k)
      if (k == 0)
        B(first, i) = 1;
      else
        A(first + k, first + k - 1) = 1;
  }
  for (Index j = 0; j < p; ++j) {
    const auto& part = outs[static_cast<std::size_t>(j)];
    const Index first = first_out[static_cast<std::size_t>(j)], count = length(part);
    // w_j of this step, at the sample or (1 − rest) of a step later, goes in; y leaves
    Matrix& of_states = count == 0 ? C : A;
    Matrix& of_inputs = count == 0 ? D : B;
    const Index row = count == 0 ? j : first;
    double share = part.rest > 0 ? 1 - part.rest : 0;
    // the times at which two delays meet are one
    for (const auto& in : ins)
      if (std::abs(share - in.rest) <= 64 * detail::epsilon_of<T>) share = in.rest;
    add_state(of_states, of_inputs, row, system.C().row(j), share);
    add_direct(of_states, of_inputs, row, j, share);
    for (Index k = 1; k < count; ++k) A(first + k, first + k - 1) = 1;
    if (count > 0) C(j, first + count - 1) = 1;
  }
  return {A.template cast<T>(), B.template cast<T>(), C.template cast<T>(), D.template cast<T>(),
          delta};
}

}  // namespace ssm
