#pragma once

#include <array>
#include <cstddef>
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
#include "ssm/discretize/discretize.hpp"
#include "ssm/scan/detail/step_cache.hpp"
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What a recurrence reads.
template <class T>
struct RecurrenceInputs {
  View<const T, 2> u;                   ///< (length, inputs), any length
  View<const T, 1> initial_state = {};  ///< x_0 (states), optional: zero when absent
  View<const T, 1> delta = {};          ///< Δ (length), s: u_t acts for delta(t); only of what is
                                        ///< sampled at irregular times
};

/// Which state the output sees.
struct RecurrenceOptions {
  Readout readout = Readout::before;  ///< the state before u_t acts, or after it
};

/// What a recurrence writes.
template <class T>
struct RecurrenceOutputs {
  View<T, 2> y;                 ///< (length, outputs); may not overlap u
  View<T, 1> final_state = {};  ///< (states), optional; may be the memory of the initial state
};

/// Scratch of a recurrence: room for two states. It grows to the largest system it has served.
/// Its members are private to the library.
template <class T>
struct RecurrenceScratch {
  Tensor<T, 2> state;  ///< (2, states): the state, and the one after it
};

/// What recurrence_step of a system of dynamic sizes needs beside it: room for two states.
template <class T>
class RecurrenceStepScratch {
 public:
  /// Room for steps of this system, and of any of as many states.
  template <int N, int M, int P>
  explicit RecurrenceStepScratch(const DiscreteStateSpace<T, N, M, P>& system)
      : state_({2, system.states()}) {}

  /// How many states it has room for.
  [[nodiscard]] Index states() const noexcept { return state_.extent(1); }
  /// The state before the step, of which it means nothing between steps.
  [[nodiscard]] T* current() noexcept { return state_.data(); }
  /// The state after the step, of which it means nothing between steps.
  [[nodiscard]] T* next() noexcept { return state_.data() + states(); }

 private:
  Tensor<T, 2> state_;
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One step. `next` is scratch; products are lazy, so that nothing allocates whatever the sizes,
/// and a step has the same bits alone and within a sequence.
template <class T, int N, int M, int P, class U, class X, class Next, class Y>
void recurrence_update(const DiscreteStateSpace<T, N, M, P>& system, Readout readout, const U& u,
                       X&& x, Next&& next, Y&& y) noexcept {
  // Without states or inputs there is nothing to point at, which Eigen's products would do.
  const bool has_state = N == Dynamic ? system.states() > 0 : N > 0;
  const bool has_input = M == Dynamic ? system.inputs() > 0 : M > 0;
  const auto read = [&] {
    if (has_state)
      y = system.C().lazyProduct(x);
    else
      y.setZero();
    if (has_input) y += system.D().lazyProduct(u);
  };
  if (readout == Readout::before) read();
  if (has_state) {
    next = system.A_bar().lazyProduct(x);
    if (has_input) next += system.B_bar().lazyProduct(u);
    x = next;
  }
  if (readout == Readout::after) read();
}

/// Runs the system that `system_at(t)` gives for every step.
template <int N, class T, class SystemAt>
void run_recurrence(const std::array<Index, 3>& sizes, const RecurrenceInputs<T>& in,
                    Readout readout, const RecurrenceOutputs<T>& out, RecurrenceScratch<T>& scratch,
                    SystemAt&& system_at) {
  constexpr std::string_view name = "recurrence";
  const auto& [u, initial_state, delta] = in;
  const auto& [y, final_state] = out;
  const auto [states, inputs, outputs] = sizes;
  const Index length = u.extent(0);
  check_shape(name, "u", u, std::array{length, inputs});
  check_optional_shape(name, "initial_state", initial_state, std::array{states});
  check_shape(name, "y", y, std::array{length, outputs});
  check_optional_shape(name, "final_state", final_state, std::array{states});

  scratch.state.resize({2, states});
  using State = Eigen::Map<Eigen::Matrix<T, N, 1>>;
  State x(scratch.state.data(), states);
  State next(scratch.state.data() + states, states);
  if (initial_state)
    x = as_eigen(initial_state);
  else
    x.setZero();
  for (Index t = 0; t < length; ++t)
    recurrence_update(system_at(t), readout, as_eigen(u[t]), x, next, as_eigen(y[t]));
  if (final_state) as_eigen(final_state) = x;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs x_{t+1} = A_bar x_t + B_bar u_t over a whole sequence and reads y_t = C x_t + D u_t, or
/// with Readout::after y_t = C x_{t+1} + D u_t.
///
/// @param backend runs on the calling thread
/// @param system A_bar, B_bar, C, D and Δ
/// @param inputs u and the state before it; no step sizes
/// @param options which state the output sees
/// @param outputs y and the state after the last step
/// @param scratch grows to its largest call
/// @throws ShapeError
/// Cost: length · (states + inputs) · (states + outputs); allocates while the scratch grows.
template <class T, int N, int M, int P>
void recurrence([[maybe_unused]] const Cpu& backend, const DiscreteStateSpace<T, N, M, P>& system,
                const std::type_identity_t<RecurrenceInputs<T>>& inputs,
                const RecurrenceOptions& options,
                const std::type_identity_t<RecurrenceOutputs<T>>& outputs,
                RecurrenceScratch<T>& scratch) {
  if (inputs.delta)
    detail::throw_domain("recurrence", "delta", "given", "none: this system has its own");
  detail::run_recurrence<N>(
      {system.states(), system.inputs(), system.outputs()}, inputs, options.readout, outputs,
      scratch, [&](Index) -> const auto& { return system; });
}

/// The discrete systems of one continuous system, one for each step size met.
///
/// Holds at most `capacity` of them, and drops all when it is full.
template <class T, int N = Dynamic, int M = Dynamic, int P = Dynamic>
class DiscretizationCache {
 public:
  /// @throws DomainError when the method changes C or D: its state or its output is that of one Δ
  explicit DiscretizationCache(StateSpace<T, N, M, P> system,
                               Discretization method = Discretization::zero_order_hold,
                               std::size_t capacity = 256)
      : system_(std::move(system)), method_(method), discrete_(capacity) {
    detail::check_keeps_output("DiscretizationCache", method);
  }

  /// The discrete system of step Δ (s), valid until the next call.
  /// @throws DomainError as the method does, and when Δ is not positive and finite
  const DiscreteStateSpace<T, N, M, P>& at(T delta) {
    return discrete_.at(delta,
                        [&] { return detail::discretize_keeping_output(method_, system_, delta); });
  }

  /// The continuous system.
  [[nodiscard]] const StateSpace<T, N, M, P>& system() const noexcept { return system_; }
  /// How many step sizes it holds now.
  [[nodiscard]] std::size_t size() const noexcept { return discrete_.size(); }

 private:
  StateSpace<T, N, M, P> system_;
  Discretization method_;
  detail::StepCache<T, DiscreteStateSpace<T, N, M, P>> discrete_;
};

/// The recurrence with a step size of its own for every step: irregularly sampled sequences.
///
/// @param backend runs on the calling thread
/// @param cache the system, and its discretizations so far
/// @param inputs u, the state before it, and Δ of every step
/// @param options which state the output sees
/// @param outputs y and the state after the last step
/// @param scratch grows to its largest call
/// @throws ShapeError, and DomainError as the discretization does, or when a Δ is not positive and
///   finite
/// Cost: that of the uniform step, and one discretization for each new Δ.
template <class T, int N, int M, int P>
void recurrence([[maybe_unused]] const Cpu& backend, DiscretizationCache<T, N, M, P>& cache,
                const std::type_identity_t<RecurrenceInputs<T>>& inputs,
                const RecurrenceOptions& options,
                const std::type_identity_t<RecurrenceOutputs<T>>& outputs,
                RecurrenceScratch<T>& scratch) {
  detail::check_shape("recurrence", "delta", inputs.delta, std::array{inputs.u.extent(0)});
  const auto& system = cache.system();
  detail::run_recurrence<N>(
      {system.states(), system.inputs(), system.outputs()}, inputs, options.readout, outputs,
      scratch, [&](Index t) -> const auto& { return cache.at(inputs.delta(t)); });
}

/// One step of a system of fixed sizes: moves the state x and returns the output.
/// No allocation, no lock, no exception.
/// @param system A_bar, B_bar, C, D
/// @param input u (inputs); a number for one input
/// @param x (states), the state before the step, and after it
/// @param readout whether the output sees the state after the input, or before
/// @return y (outputs)
template <class T, int N, int M, int P>
requires(N != Dynamic && M != Dynamic && P != Dynamic) Eigen::Matrix<T, P, 1> recurrence_step(
    const DiscreteStateSpace<T, N, M, P>& system,
    const std::type_identity_t<detail::VectorArgument<T, M>>& input, Eigen::Matrix<T, N, 1>& x,
    Readout readout = Readout::before)
noexcept {
  Eigen::Matrix<T, N, 1> next;
  Eigen::Matrix<T, P, 1> y;
  detail::recurrence_update(system, readout, input.vector(), x, next, y);
  return y;
}

/// One step of a system of any sizes: moves the state x, (states), and writes the output y,
/// (outputs), for the input u, (inputs). No allocation, no lock, no exception: a shape that does
/// not fit ends the program with a ShapeError.
/// @param system A_bar, B_bar, C, D and Δ
/// @param u (inputs)
/// @param x (states), before the step and after it
/// @param y (outputs), written
/// @param readout whether the output sees the state after the input, or before
/// @param scratch made for a system of as many states
template <class T, int N, int M, int P>
void recurrence_step(const DiscreteStateSpace<T, N, M, P>& system,
                     const std::type_identity_t<View<const T, 1>>& u,
                     const std::type_identity_t<View<T, 1>>& x,
                     const std::type_identity_t<View<T, 1>>& y, RecurrenceStepScratch<T>& scratch,
                     Readout readout = Readout::before) noexcept {
  const Index states = system.states();
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "recurrence_step";
    detail::check_shape(function, "u", u, std::array{system.inputs()});
    detail::check_shape(function, "x", x, std::array{states});
    detail::check_shape(function, "y", y, std::array{system.outputs()});
    if (scratch.states() != states)
      detail::throw_shape(function, "scratch", std::to_string(scratch.states()) + " states",
                          std::to_string(states));
  });
  using State = Eigen::Map<Eigen::Matrix<T, N, 1>>;
  State current(scratch.current(), states);
  State next(scratch.next(), states);
  current = as_eigen(x);
  detail::recurrence_update(system, readout, as_eigen(u), current, next, as_eigen(y));
  as_eigen(x) = current;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
