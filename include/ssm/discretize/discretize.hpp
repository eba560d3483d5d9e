#pragma once

#include <array>
#include <cassert>
#include <cstdlib>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/bilinear_euler.hpp"
#include "ssm/discretize/discretization.hpp"
#include "ssm/discretize/first_order_hold.hpp"
#include "ssm/discretize/tustin.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

namespace detail {

/// discretize by a method that keeps C and D, without the code of the others.
template <class T, int N, int M, int P>
DiscreteStateSpace<T, N, M, P> discretize_keeping_output(Discretization method,
                                                         const StateSpace<T, N, M, P>& system,
                                                         T delta) {
  switch (method) {
    case Discretization::zero_order_hold:
      return zero_order_hold(system, delta);
    case Discretization::bilinear:
      return bilinear(system, delta);
    case Discretization::forward_euler:
      return forward_euler(system, delta);
    case Discretization::backward_euler:
      return backward_euler(system, delta);
    default:
      std::abort();
  }
}

}  // namespace detail

/// The discrete system of step Δ (s) by the named method, with the errors of that method.
template <class T, int N, int M, int P>
[[nodiscard]] DiscreteStateSpace<T, N, M, P> discretize(Discretization method,
                                                        const StateSpace<T, N, M, P>& system,
                                                        std::type_identity_t<T> delta) {
  switch (method) {
    case Discretization::first_order_hold:
      return first_order_hold(system, delta);
    case Discretization::impulse_invariant:
      return impulse_invariant(system, delta);
    case Discretization::tustin:
      return tustin(system, delta);
    default:
      return detail::discretize_keeping_output(method, system, delta);
  }
}

/// The same for one mode λ (1/s) of a diagonal system, real or complex, by a method that keeps C
/// and D.
template <Scalar K>
[[nodiscard]] DiscreteMode<K> discretize(Discretization method, const K& lambda,
                                         Real<K> delta) noexcept {
  assert(keeps_output(method));
  switch (method) {
    case Discretization::zero_order_hold:
      return zero_order_hold(lambda, delta);
    case Discretization::bilinear:
      return bilinear(lambda, delta);
    case Discretization::forward_euler:
      return forward_euler(lambda, delta);
    case Discretization::backward_euler:
      return backward_euler(lambda, delta);
    default:
      std::abort();
  }
}

/// Discretizes a diagonal system with one Δ per channel: element by element as for one mode.
///
/// @param backend how many threads
/// @param method how the system is sampled
/// @param lambda (channels, state), 1/s, real or complex
/// @param delta Δ (channels), s
/// @param a_bar (channels, state), written
/// @param b_bar_factor (channels, state), written: B_bar = b_bar_factor · B
/// @throws ShapeError, and DomainError when the method changes C or D
template <Scalar K>
void discretize_diagonal(const Cpu& backend, Discretization method,
                         const std::type_identity_t<View<const K, 2>>& lambda,
                         const std::type_identity_t<View<const Real<K>, 1>>& delta,
                         const View<K, 2>& a_bar,
                         const std::type_identity_t<View<K, 2>>& b_bar_factor) {
  constexpr std::string_view name = "discretize_diagonal";
  detail::check_keeps_output(name, method);
  const Index channels = lambda.extent(0), state = lambda.extent(1);
  detail::check_shape(name, "delta", delta, std::array{channels});
  detail::check_shape(name, "a_bar", a_bar, lambda.extents());
  detail::check_shape(name, "b_bar_factor", b_bar_factor, lambda.extents());
  parallel_for(backend, channels, [&](Index c) {
    for (Index n = 0; n < state; ++n) {
      const DiscreteMode<K> mode = discretize(method, lambda(c, n), delta(c));
      a_bar(c, n) = mode.a_bar;
      b_bar_factor(c, n) = mode.b_bar_factor;
    }
  });
}

/// The same with a Δ that changes from step to step.
///
/// @param backend how many threads
/// @param method how the system is sampled
/// @param lambda (channels, state), 1/s, real or complex
/// @param delta Δ (length, channels), s
/// @param a_bar (length, channels, state), written
/// @param b_bar_factor (length, channels, state), written: B_bar = b_bar_factor · B
/// @throws ShapeError, and DomainError when the method changes C or D
template <Scalar K>
void discretize_diagonal(const Cpu& backend, Discretization method,
                         const std::type_identity_t<View<const K, 2>>& lambda,
                         const std::type_identity_t<View<const Real<K>, 2>>& delta,
                         const View<K, 3>& a_bar,
                         const std::type_identity_t<View<K, 3>>& b_bar_factor) {
  constexpr std::string_view name = "discretize_diagonal";
  detail::check_keeps_output(name, method);
  const Index length = delta.extent(0), channels = lambda.extent(0), state = lambda.extent(1);
  detail::check_shape(name, "delta", delta, std::array{length, channels});
  detail::check_shape(name, "a_bar", a_bar, std::array{length, channels, state});
  detail::check_shape(name, "b_bar_factor", b_bar_factor, std::array{length, channels, state});
  parallel_for(backend, length, [&](Index t) {
    discretize_diagonal(Cpu{1}, method, lambda, delta[t], a_bar[t], b_bar_factor[t]);
  });
}

}  // namespace ssm
