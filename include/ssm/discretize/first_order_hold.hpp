#pragma once

#include <concepts>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// One exact step over an input that runs straight from u_t to u_{t+1}:
///
///   x_{t+1} = A_bar x_t + B_start u_t + B_end u_{t+1}.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic>
struct RampStep {
  Eigen::Matrix<T, States, States> A_bar;    ///< (states, states)
  Eigen::Matrix<T, States, Inputs> B_start;  ///< (states, inputs), of the input as it begins
  Eigen::Matrix<T, States, Inputs> B_end;    ///< (states, inputs), of the input as it ends
};

/// The step of Δ over a ramp: with Γ₁ = Δ φ₁(ΔA) B and Γ₂ = Δ φ₂(ΔA) B, φ₂(z) = (φ₁(z) − 1)/z,
///
///   A_bar = e^{ΔA},  B_start = Γ₁ − Γ₂,  B_end = Γ₂,
///
/// read off exp([ΔA ΔB 0; 0 0 I; 0 0 0]) = [A_bar Γ₁ Γ₂; 0 I I; 0 0 I] (Franklin, Powell &
/// Workman, Digital Control of Dynamic Systems, 3rd ed., section 6.3.2). Singular and stiff A are
/// as good as any.
///
/// @param system A, B, C, D
/// @param delta Δ, s; 0 gives the identity, a negative Δ runs back in time
/// @throws DomainError when e^{ΔA} overflows
/// Cost: matrix_exponential of (states + inputs), with inputs columns more; no allocation for
/// fixed sizes.
template <class T, int N, int M, int P>
[[nodiscard]] RampStep<T, N, M> ramp_step(const StateSpace<T, N, M, P>& system,
                                          std::type_identity_t<T> delta) {
  constexpr int size = N == Dynamic || M == Dynamic ? Dynamic : N + M;
  const Index states = system.states(), inputs = system.inputs();
  const double h = static_cast<double>(delta);

  Eigen::Matrix<double, size, size> block =
      Eigen::Matrix<double, size, size>::Zero(states + inputs, states + inputs);
  for (Index i = 0; i < states; ++i) {
    for (Index j = 0; j < states; ++j) block(i, j) = static_cast<double>(system.A()(i, j)) * h;
    for (Index j = 0; j < inputs; ++j)
      block(i, states + j) = static_cast<double>(system.B()(i, j)) * h;
  }
  Eigen::Matrix<double, size, M> ramp =
      Eigen::Matrix<double, size, M>::Zero(states + inputs, inputs);
  for (Index j = 0; j < inputs; ++j) ramp(states + j, j) = 1;
  detail::hold_in_place(block, ramp);

  RampStep<T, N, M> step{Eigen::Matrix<T, N, N>(states, states),
                         Eigen::Matrix<T, N, M>(states, inputs),
                         Eigen::Matrix<T, N, M>(states, inputs)};
  for (Index i = 0; i < states; ++i) {
    for (Index j = 0; j < states; ++j) step.A_bar(i, j) = static_cast<T>(block(i, j));
    for (Index j = 0; j < inputs; ++j) {
      step.B_start(i, j) = static_cast<T>(block(i, states + j) - ramp(i, j));
      step.B_end(i, j) = static_cast<T>(ramp(i, j));
    }
  }
  detail::check_held("ramp_step", system, delta, step.A_bar, step.B_start, step.B_end);
  return step;
}

/// First-order hold: exact at the samples when the input runs straight from each to the next.
///
/// With the step x_{t+1} = A_bar x_t + B_start u_t + B_end u_{t+1} of ramp_step and the state
/// x − B_end u, which does not look ahead,
///
///   B_bar = B_start + A_bar B_end,  C unchanged,  D_bar = D + C B_end
///
/// (Franklin, Powell & Workman, section 6.3.2). Read its output by Readout::before: y_t is the
/// output at the time of u_t.
///
/// @param delta Δ, s
/// @param system A, B, C, D
/// @throws DomainError when Δ is not positive and finite, or e^{ΔA} overflows
/// Cost: that of ramp_step.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> first_order_hold(const StateSpace<T, N, M, P>& system,
                                                              std::type_identity_t<T> delta) {
  detail::check_sampling("first_order_hold", delta);
  const RampStep<T, N, M> step = ramp_step(system, delta);
  return {step.A_bar, step.B_start + detail::multiply(step.A_bar, step.B_end), system.C(),
          system.D() + detail::multiply(system.C(), step.B_end), delta};
}

}  // namespace ssm
