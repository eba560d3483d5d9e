#pragma once

#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One step of x' = A(t) x + b(t) by the Magnus integrator of order 4, given A and b at the two
/// Gauss points of the step h: x ← e^Ω x + φ₁(Ω) ω.
template <int N>
void magnus_step(const Eigen::Matrix<double, N, N>& A1, const Eigen::Matrix<double, N, N>& A2,
                 const Eigen::Matrix<double, N, 1>& b1, const Eigen::Matrix<double, N, 1>& b2,
                 double h, Eigen::Matrix<double, N, 1>& x) {
  const double half = h / 2, commutator = std::sqrt(3.0) / 12 * h * h;
  Eigen::Matrix<double, N, N> omega = half * (A1 + A2) + commutator * (A2 * A1 - A1 * A2);
  Eigen::Matrix<double, N, 1> input = half * (b1 + b2) + commutator * (A2 * b1 - A1 * b2);
  hold_in_place(omega, input);
  x = (omega * x + input).eval();
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// How a varying system is integrated.
struct VaryingSimulationOptions {
  InputHold hold = InputHold::zero_order;  ///< how the input runs from sample to sample
  int substeps = 1;                        ///< equal parts of each step, at least 1
};

/// The output of a system whose matrices change: x' = A(t) x + B(t) u, y = C(t) x + D(t) u.
///
/// Each step from time(t) to time(t + 1), or each of its substeps h, is a Magnus step of order 4:
/// with A₁, A₂ and b₁, b₂ the values of A and B u at t + (1/2 ∓ √3/6) h,
///
///   x(t + h) = e^Ω x(t) + φ₁(Ω) ω,  Ω = h/2 (A₁ + A₂) + √3/12 h² (A₂A₁ − A₁A₂),
///   ω = h/2 (b₁ + b₂) + √3/12 h² (A₂b₁ − A₁b₂)
///
/// (Iserles & Nørsett 1999, "On the solution of linear differential equations in Lie groups",
/// for the system [A b; 0 0]). Exact while A, B and u are constant; its error is O(h⁴) otherwise.
///
/// @param backend runs on the calling thread
/// @param system_at StateSpace of scalar T at a time t (s); called at Gauss points and samples
/// @param inputs the times, the input and the initial state; no Δ
/// @param options how the input is held, and how many parts a step has
/// @param outputs y and the final state
/// @throws ShapeError, also when system_at changes its sizes, and DomainError when the times do not
///   increase or substeps < 1
/// Cost: a matrix_exponential of (states) and two systems for each substep; the state is carried
/// in double.
template <class SystemAt, class T = typename std::invoke_result_t<SystemAt&, double>::Scalar>
void simulate_varying([[maybe_unused]] const Cpu& backend, SystemAt&& system_at,
                      const std::type_identity_t<SimulationInputs<T>>& inputs,
                      const VaryingSimulationOptions& options,
                      const std::type_identity_t<SimulationOutputs<T>>& outputs) {
  using System = std::remove_cvref_t<std::invoke_result_t<SystemAt&, T>>;
  constexpr int size = System::StateMatrix::RowsAtCompileTime;
  using Matrix = Eigen::Matrix<double, size, size>;
  using Vector = Eigen::Matrix<double, size, 1>;
  constexpr std::string_view name = "simulate_varying";
  const View<const T, 1>&time = inputs.time, &initial_state = inputs.initial_state;
  const View<const T, 2>& u = inputs.u;
  const View<T, 2>& y = outputs.y;
  const View<T, 1>& final_state = outputs.final_state;
  const auto [hold, substeps] = options;
  const Index length = time.extent(0);
  if (inputs.delta != T(0)) detail::throw_domain(name, "delta", "given", "the times");
  detail::check_increasing(name, time);
  if (substeps < 1) detail::throw_domain(name, "substeps", std::to_string(substeps), ">= 1");
  const auto check = [&](Index states, Index ins, Index outs) {
    detail::check_optional_shape(name, "u", u, std::array{length, ins});
    detail::check_optional_shape(name, "initial_state", initial_state, std::array{states});
    detail::check_shape(name, "y", y, std::array{length, outs});
    detail::check_optional_shape(name, "final_state", final_state, std::array{states});
  };
  if (length == 0) {  // without a time there is no system to ask: the views have its sizes
    check(detail::fixed_or(size, (initial_state ? initial_state : final_state).extent(0)),
          detail::fixed_or(System::InputMatrix::ColsAtCompileTime, u.extent(1)),
          detail::fixed_or(System::OutputMatrix::RowsAtCompileTime, y.extent(1)));
    if (!final_state) return;
    if (initial_state)
      as_eigen(final_state) = as_eigen(initial_state);
    else
      as_eigen(final_state).setZero();
    return;
  }

  System system = system_at(time(0));
  const Index states = system.states(), ins = system.inputs(), outs = system.outputs();
  check(states, ins, outs);
  const auto move_to = [&](T t) {
    system = system_at(t);
    detail::check_matrix(name, "A", system.A(), states, states);
    detail::check_matrix(name, "D", system.D(), outs, ins);
  };

  Vector x = Vector::Zero(states);
  if (initial_state) x = as_eigen(initial_state).template cast<double>();
  Matrix A[2];
  Vector b[2] = {Vector::Zero(states), Vector::Zero(states)};
  for (Index t = 0;; ++t) {
    auto output = as_eigen(y[t]);
    output = system.C() * x.template cast<T>();
    if (u) output += system.D() * as_eigen(u[t]);
    if (t + 1 == length) break;
    const double start = static_cast<double>(time(t));
    const double step = static_cast<double>(time(t + 1)) - start, h = step / substeps;
    for (int part = 0; part < substeps; ++part) {
      for (const int point : {0, 1}) {
        const double at = part * h + (0.5 + (point == 0 ? -1 : 1) * std::sqrt(3.0) / 6) * h;
        move_to(static_cast<T>(start + at));
        A[point] = system.A().template cast<double>();
        if (!u) continue;
        const T share = hold == InputHold::first_order ? static_cast<T>(at / step) : T(0);
        b[point] = (system.B() * ((T(1) - share) * as_eigen(u[t]) + share * as_eigen(u[t + 1])))
                       .template cast<double>();
      }
      detail::magnus_step<size>(A[0], A[1], b[0], b[1], h, x);
    }
    move_to(time(t + 1));
  }
  if (final_state) as_eigen(final_state) = x.template cast<T>();
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
