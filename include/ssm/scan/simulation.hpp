#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/error.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What simulate made: a row for each sample.
template <std::floating_point T>
struct Simulation {
  /// A row for each sample.
  using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  Eigen::Matrix<T, Eigen::Dynamic, 1> t;  ///< (length), s
  Rows y;                                 ///< (length, outputs), the output at t
  Rows x;                                 ///< (length, states), the state at t
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class U>
concept HasRows = requires(const U& u) {
  u.rows();
};
template <class U, class T>
concept Number = !HasRows<U> && std::convertible_to<U, T>;
/// A matrix of Eigen looks as if it could be called as well.
template <class U, class T>
concept InputFunction = !HasRows<U> && std::invocable<const U&, T>;

/// How many samples an input has, or −1 for one that has as many as are asked for.
template <class T, class U>
Index samples_of(const U& u) {
  if constexpr (InputFunction<U, T> || Number<U, T>)
    return -1;
  else if constexpr (HasRows<U>)
    return u.rows();
  else
    return static_cast<Index>(u.size());
}

/// An input as rows (length, inputs).
template <class T, class U>
typename Simulation<T>::Rows input_rows(const U& u, const Eigen::Matrix<T, Eigen::Dynamic, 1>& t,
                                        Index inputs) {
  typename Simulation<T>::Rows rows(t.size(), inputs);
  if constexpr (InputFunction<U, T>) {
    for (Index i = 0; i < t.size(); ++i) {
      const VectorArgument<T, Dynamic> value(u(t(i)));
      check_matrix("simulate", "u(t)", value.vector(), inputs, 1);
      for (Index k = 0; k < inputs; ++k) rows(i, k) = value.vector()(k);
    }
  } else if constexpr (Number<U, T>) {
    rows.setConstant(static_cast<T>(u));
  } else if constexpr (HasRows<U>) {
    check_matrix("simulate", "u", u, t.size(), inputs);
    rows = u;
  } else {
    const VectorArgument<T, Dynamic> values(u);
    check_matrix("simulate", "u", values.vector(), t.size(), inputs);
    for (Index i = 0; i < t.size(); ++i) rows(i, 0) = values.vector()(i);
  }
  return rows;
}

/// The times 0, Δ, 2Δ, …
template <class T>
Eigen::Matrix<T, Eigen::Dynamic, 1> equal_times(Index length, T delta) {
  Eigen::Matrix<T, Eigen::Dynamic, 1> t(length);
  for (Index i = 0; i < length; ++i) t(i) = static_cast<T>(i) * delta;
  return t;
}

/// x0, or zero when it is absent.
template <class T, int N>
Eigen::Matrix<T, Eigen::Dynamic, 1> start_of(const VectorArgument<T, N>& x0, Index states) {
  if (!x0) return Eigen::Matrix<T, Eigen::Dynamic, 1>::Zero(states);
  check_matrix("simulate", "x0", x0.vector(), states, 1);
  return x0.vector();
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The output and the state of x' = A x + B u, y = C x + D u, exact at every sample for an input
/// that is held: `simulate(system, times, u).y`.
///
/// @param system A, B, C, D
/// @param time the times of the samples, s, increasing, of any spacing, as a vector of Eigen or
///   std::vector; or one number, the time from each sample to the next, beginning at 0
/// @param u the input at those times: a matrix (length, inputs); for one input a vector of Eigen or
///   std::vector (length); a function of the time that gives a number or a vector (inputs); or
///   a number, for an input that stays. With one number for time it must tell the length.
/// @param x0 (states), the state at the first time; zero when absent
/// @param hold how the input runs from sample to sample
/// @throws ShapeError
/// @throws DomainError when the times do not increase, or e^{ΔA} overflows
/// Cost: length · (states + 2 inputs) · states, and a hold for each new step size.
template <class T, int N, int M, int P, class Times, class U>
[[nodiscard]] Simulation<T> simulate(
    const StateSpace<T, N, M, P>& system, const Times& time, const U& u,
    const std::type_identity_t<detail::VectorArgument<T, N>>& x0 = {},
    InputHold hold = InputHold::zero_order) {
  constexpr bool equal = detail::Number<Times, T>;
  Simulation<T> result;
  T delta(0);
  if constexpr (equal) {
    static_assert(
        !detail::InputFunction<U, T> && !detail::Number<U, T>,
        "simulate(system, step, u): u tells how many samples there are; or give the times");
    delta = static_cast<T>(time);
    detail::check_sampling("simulate", delta);
    result.t = detail::equal_times<T>(detail::samples_of<T>(u), delta);
  } else {
    result.t = detail::VectorArgument<T, Dynamic>(time).vector();
    const View<const T, 1> times(result.t.data(), {result.t.size()});
    detail::check_increasing("simulate", times);
    delta = detail::uniform_step(times);
  }
  const Index length = result.t.size();
  const auto input = detail::input_rows<T>(u, result.t, system.inputs());
  const auto start = detail::start_of(x0, system.states());
  result.y.resize(length, system.outputs());
  result.x.resize(length, system.states());
  HoldCache<T, N, M, P> cache(system, hold);
  RecurrenceScratch<T> scratch;
  detail::run_simulation(
      system, View<const T, 2>(input.data(), {length, system.inputs()}),
      View<const T, 1>(start.data(), {start.size()}),
      View<T, 2>(result.y.data(), {length, system.outputs()}), View<T, 1>(), scratch,
      [&](Index i) -> const auto& {
        return cache.at(delta > T(0) ? delta : result.t(i + 1) - result.t(i));
      },
      View<T, 2>(result.x.data(), {length, system.states()}));
  return result;
}

/// The output and the state of x_{t+1} = A_bar x_t + B_bar u_t, y_t = C x_t + D u_t at the times
/// 0, Δ, 2Δ, …: `simulate(sampled, u).y`.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @param u the input: a matrix (length, inputs), or for one input a vector of Eigen or std::vector
///   (length)
/// @param x0 (states), the state at the first sample; zero when absent
/// @throws ShapeError
/// Cost: length · (states + inputs) · (states + outputs).
template <class T, int N, int M, int P, class U>
[[nodiscard]] Simulation<T> simulate(
    const DiscreteStateSpace<T, N, M, P>& system, const U& u,
    const std::type_identity_t<detail::VectorArgument<T, N>>& x0 = {}) {
  static_assert(!detail::InputFunction<U, T> && !detail::Number<U, T>,
                "simulate(sampled, u): u tells how many samples there are");
  Simulation<T> result;
  result.t = detail::equal_times<T>(detail::samples_of<T>(u), system.delta());
  const Index length = result.t.size(), states = system.states();
  const auto input = detail::input_rows<T>(u, result.t, system.inputs());
  auto x = detail::start_of(x0, states);
  result.y.resize(length, system.outputs());
  result.x.resize(length, states);
  Eigen::Matrix<T, Eigen::Dynamic, 1> next(states), y(system.outputs()), now(system.inputs());
  for (Index i = 0; i < length; ++i) {
    result.x.row(i) = x;
    now = input.row(i);
    detail::recurrence_update(system, Readout::before, now, x, next, y);
    result.y.row(i) = y;
  }
  return result;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
