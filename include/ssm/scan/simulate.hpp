#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/first_order_hold.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/detail/step_cache.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How an input runs from one sample to the next: constant, or straight to the next.
enum class InputHold { zero_order, first_order };

/// What a simulation reads: times, or one step size for the times 0, Δ, 2Δ, …
template <class T>
struct SimulationInputs {
  View<const T, 1> time = {};           ///< (length), s, increasing, at any spacing
  View<const T, 2> u = {};              ///< (length, inputs), u_t at time(t); optional: zero
  View<const T, 1> initial_state = {};  ///< (states) at time(0), optional: zero when absent
  T delta = 0;                          ///< Δ, s, where there are no times
};

/// A simulation has no options: how the input is held is the cache's.
struct SimulationOptions {};

/// What a simulation writes.
template <class T>
struct SimulationOutputs {
  View<T, 2> y;                 ///< (length, outputs), y_t at time(t); may not overlap u
  View<T, 1> final_state = {};  ///< (states) at the last time, optional; may be the memory of the
                                ///< initial state
};

/// The exact steps of one continuous system, one for each step size met: at most `capacity` of
/// them, and all are dropped when it is full.
template <class T, int N = Dynamic, int M = Dynamic, int P = Dynamic>
class HoldCache {
 public:
  /// @param system A, B, C, D
  /// @param hold how the input runs from sample to sample
  /// @param capacity the most step sizes that it holds
  explicit HoldCache(StateSpace<T, N, M, P> system, InputHold hold = InputHold::zero_order,
                     std::size_t capacity = 256)
      : system_(std::move(system)), hold_(hold), steps_(capacity) {}

  /// x(t + Δ) = A_bar x(t) + B_start u(t) + B_end u(t + Δ), valid until the next call; B_end = 0
  /// for a zero-order hold. Δ in s.
  /// @throws DomainError when Δ is not positive and finite
  const RampStep<T, N, M>& at(T delta) {
    detail::check_sampling("HoldCache", delta);
    return steps_.at(delta, [&] { return step(delta); });
  }

  /// The continuous system.
  [[nodiscard]] const StateSpace<T, N, M, P>& system() const noexcept { return system_; }
  /// How many step sizes it holds now.
  [[nodiscard]] std::size_t size() const noexcept { return steps_.size(); }

 private:
  [[nodiscard]] RampStep<T, N, M> step(T delta) const {
    if (hold_ == InputHold::first_order) return ramp_step(system_, delta);
    const auto held = detail::held_step<T>("simulate", system_, delta);
    return {held.A_bar, held.B_bar,
            Eigen::Matrix<T, N, M>::Zero(system_.states(), system_.inputs())};
  }

  StateSpace<T, N, M, P> system_;
  InputHold hold_;
  detail::StepCache<T, RampStep<T, N, M>> steps_;
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws DomainError unless every time is finite and later than the one before it.
template <class T>
void check_increasing(std::string_view function, const View<const T, 1>& time) {
  for (const Index t : {Index(0), time.extent(0) - 1})  // the others lie between
    if (time.extent(0) > 0 && !std::isfinite(time(t)))
      throw_domain(function, "time " + detail::number(t), detail::number(time(t)), "finite");
  for (Index t = 1; t < time.extent(0); ++t)
    if (!(time(t) > time(t - 1)))
      throw_domain(function, "time " + detail::number(t),
                   detail::number(time(t)) + " after " + detail::number(time(t - 1)), "later");
}

/// The step of a grid whose times are t_0 + k Δ but for their rounding, and 0 for any other.
template <class T>
T uniform_step(const View<const T, 1>& time) {
  const Index steps = time.extent(0) - 1;
  if (steps < 1) return 0;
  const T first = time(0), delta = (time(steps) - first) / static_cast<T>(steps);
  const T rounding =
      2 * std::numeric_limits<T>::epsilon() * (std::max)(std::abs(first), std::abs(time(steps)));
  for (Index t = 1; t < steps; ++t)
    if (!(std::abs(time(t) - (first + static_cast<T>(t) * delta)) <= rounding)) return 0;
  return delta;
}

/// Runs the steps that `step_at(t)` gives from sample t to t + 1.
template <class T, int N, int M, int P, class StepAt>
void run_simulation(const StateSpace<T, N, M, P>& system, const View<const T, 2>& u,
                    const View<const T, 1>& initial_state, const View<T, 2>& y,
                    const View<T, 1>& final_state, RecurrenceScratch<T>& scratch, StepAt&& step_at,
                    const View<T, 2>& states_too = {}) {
  constexpr std::string_view name = "simulate";
  const Index length = y.extent(0), states = system.states();
  check_optional_shape(name, "u", u, std::array{length, system.inputs()});
  check_optional_shape(name, "initial_state", initial_state, std::array{states});
  check_shape(name, "y", y, std::array{length, system.outputs()});
  check_optional_shape(name, "final_state", final_state, std::array{states});

  scratch.state.resize({2, states});
  using State = Eigen::Map<Eigen::Matrix<T, N, 1>>;
  State x(scratch.state.data(), states);
  State next(scratch.state.data() + states, states);
  if (initial_state)
    x = as_eigen(initial_state);
  else
    x.setZero();
  for (Index t = 0; t < length; ++t) {
    if (states_too) as_eigen(states_too[t]) = x;
    auto output = as_eigen(y[t]);
    output = system.C().lazyProduct(x);
    if (u) output += system.D().lazyProduct(as_eigen(u[t]));
    if (t + 1 == length) break;
    const RampStep<T, N, M>& step = step_at(t);
    next = step.A_bar.lazyProduct(x);
    if (u) {
      next += step.B_start.lazyProduct(as_eigen(u[t]));
      next += step.B_end.lazyProduct(as_eigen(u[t + 1]));
    }
    x = next;
  }
  if (final_state) as_eigen(final_state) = x;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The output of x' = A x + B u, y = C x + D u at given times, exact for an input that is held as
/// the cache says: y_t is the output at time(t), so that y_0 belongs to the initial state.
///
/// Times t_0 + k Δ but for their rounding take one step size, any others their differences.
///
/// @param backend runs on the calling thread
/// @param cache the system, how its input is held, and its steps so far
/// @param inputs the times or Δ, the input and the initial state
/// @param options none
/// @param outputs y and the final state
/// @param scratch grows to its largest call
/// @throws ShapeError, and DomainError when the times do not increase or are not finite, or Δ is
/// not positive and
///   finite
/// Cost: length · (states + 2 inputs) · states, and a hold for each new step size; allocates while
/// the cache and the scratch grow.
template <class T, int N, int M, int P>
void simulate([[maybe_unused]] const Cpu& backend, HoldCache<T, N, M, P>& cache,
              const std::type_identity_t<SimulationInputs<T>>& inputs,
              [[maybe_unused]] const SimulationOptions& options,
              const std::type_identity_t<SimulationOutputs<T>>& outputs,
              RecurrenceScratch<T>& scratch) {
  const auto& [time, u, initial_state, delta] = inputs;
  const auto& [y, final_state] = outputs;
  T uniform = delta;
  if (time) {
    if (delta != T(0))
      detail::throw_domain("simulate", "delta", "given beside times", "one of them");
    detail::check_shape("simulate", "time", time, std::array{y.extent(0)});
    detail::check_increasing("simulate", time);
    uniform = detail::uniform_step(time);
  } else {
    detail::check_sampling("simulate", delta);
  }
  detail::run_simulation(
      cache.system(), u, initial_state, y, final_state, scratch,
      [&, &time = time ](Index t) -> const auto& {
        return cache.at(uniform > T(0) ? uniform : time(t + 1) - time(t));
      });
}

/// The output from an initial state on, without input: y(t) = C e^{(t − t_0) A} x_0.
///
/// @param backend how many threads
/// @param system A, B, C, D
/// @param time (length), s, increasing
/// @param initial_state x_0 (states) at time(0)
/// @param y (length, outputs), written
/// @throws ShapeError, and DomainError when the times do not increase or are not finite
/// Cost: that of simulate; allocates.
template <class T, int N, int M, int P>
void initial_response(const Cpu& backend, const StateSpace<T, N, M, P>& system,
                      const std::type_identity_t<View<const T, 1>>& time,
                      const std::type_identity_t<View<const T, 1>>& initial_state,
                      const std::type_identity_t<View<T, 2>>& y) {
  HoldCache<T, N, M, P> cache(system);
  RecurrenceScratch<T> scratch;
  simulate(backend, cache, {time, {}, initial_state}, {}, {y}, scratch);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Calls respond(system of input i alone, outputs to input i) for every input.
template <class T, int N, int M, int P, class Respond>
void respond_to_each_input(std::string_view name, const StateSpace<T, N, M, P>& system,
                           Index length, const View<T, 3>& y, Respond&& respond) {
  check_shape(name, "y", y, std::array{length, system.outputs(), system.inputs()});
  for (Index i = 0; i < system.inputs(); ++i) {
    const StateSpace<T, N, 1, P> single(system.A(), system.B().col(i), system.C(),
                                        system.D().col(i));
    respond(single, View<T, 2>(y.data() + i * y.stride(2), {length, system.outputs()},
                               {y.stride(0), y.stride(1)}));
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The outputs to a unit step of each input by itself at time(0), from rest:
/// y(t) = C ∫₀^{t − t_0} e^{sA} ds B + D.
///
/// @param backend how many threads
/// @param system A, B, C, D
/// @param time (length), s, increasing
/// @param y (length, outputs, inputs), written
/// @throws ShapeError, and DomainError when the times do not increase or are not finite
/// Cost: inputs times that of simulate; allocates.
template <class T, int N, int M, int P>
void step_response(const Cpu& backend, const StateSpace<T, N, M, P>& system,
                   const std::type_identity_t<View<const T, 1>>& time,
                   const std::type_identity_t<View<T, 3>>& y) {
  const T one(1);
  const Index length = time.extent(0);
  detail::respond_to_each_input("step_response", system, length, y,
                                [&](const auto& single, const View<T, 2>& output) {
                                  HoldCache<T, N, 1, P> cache(single);
                                  RecurrenceScratch<T> scratch;
                                  const View<const T, 2> ones(&one, {length, 1}, {0, 0});
                                  simulate(backend, cache, {time, ones}, {}, {output}, scratch);
                                });
}

/// The outputs to a unit impulse of each input by itself at time(0), from rest, just after it:
/// y(t) = C e^{(t − t_0) A} B. The impulse that D passes on at time(0) is not in it.
///
/// @param backend how many threads
/// @param system A, B, C, D
/// @param time (length), s, increasing
/// @param y (length, outputs, inputs), written; unit 1/s of the step response
/// @throws ShapeError, and DomainError when the times do not increase or are not finite
/// Cost: inputs times that of simulate; allocates.
template <class T, int N, int M, int P>
void impulse_response(const Cpu& backend, const StateSpace<T, N, M, P>& system,
                      const std::type_identity_t<View<const T, 1>>& time,
                      const std::type_identity_t<View<T, 3>>& y) {
  detail::respond_to_each_input("impulse_response", system, time.extent(0), y,
                                [&](const auto& single, const View<T, 2>& output) {
                                  Tensor<T, 1> kicked({single.states()});
                                  as_eigen(kicked.view()) = single.B();
                                  initial_response(backend, single, time, kicked, output);
                                });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
