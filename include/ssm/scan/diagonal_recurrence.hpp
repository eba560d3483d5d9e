#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/offsets.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm {

/// What the recurrence of diagonal systems reads, one system with one input and one output a
/// channel. T is float or double; K is T, or std::complex<T>: then the states stand for conjugate
/// pairs, and y = 2 Re C·x.
template <class T, class K = T, class Space = Host>
struct DiagonalRecurrenceInputs {
  View<const T, 3, Space> u;       ///< (batch, length, channels)
  View<const K, 2, Space> lambda;  ///< λ (channels, state), 1/s, Re λ < 0 for a stable system
  View<const K, 2, Space> B;       ///< (channels, state)
  View<const K, 2, Space> C;       ///< (channels, state)
  View<const T, 1, Space> D;       ///< (channels), optional: y += D u
  View<const K, 3, Space>
      initial_state;  ///< (sequences, channels, state), optional: zero when absent
  View<const Index, 1, Space> offsets = {};  ///< (sequences + 1), optional: sequence s of a batch
                                             ///< of one is [offsets[s], offsets[s+1]), end to end
};

/// What the recurrence of diagonal systems writes.
template <class T, class K = T, class Space = Host>
struct DiagonalRecurrenceOutputs {
  View<T, 3, Space> y;  ///< (batch, length, channels), may be the memory of u
  View<K, 3, Space>
      final_state;  ///< (sequences, channels, state), optional, may be that of initial_state
};

struct DiagonalScanOptions {
  bool reversed = false;  ///< time runs from the last step of each sequence to the first
};

/// Scratch of the recurrence of diagonal systems. It grows to the largest call it has served.
template <class K>
struct DiagonalRecurrenceWorkspace {
  Tensor<K, 2> state;         ///< (sequences · channels, state)
  Tensor<K, 2> a_bar, b_bar;  ///< (channels, state), when Δ is constant
};

namespace detail {

/// Where a sequence lies: a row of the batch and [begin, end) in time.
struct SequenceSteps {
  Index row, begin, end;
};

template <class T, class K, class Space>
Index sequence_count(const DiagonalRecurrenceInputs<T, K, Space>& in) noexcept {
  return in.offsets ? in.offsets.extent(0) - 1 : in.u.extent(0);
}
template <class T, class K>
SequenceSteps sequence_steps(const DiagonalRecurrenceInputs<T, K>& in, Index sequence) noexcept {
  if (in.offsets) return {0, in.offsets(sequence), in.offsets(sequence + 1)};
  return {sequence, 0, in.u.extent(1)};
}

template <class T, class K, class Space>
void check_diagonal_inputs(std::string_view name, Discretization method,
                           const DiagonalRecurrenceInputs<T, K, Space>& in) {
  check_keeps_output(name, method);
  if (!in.u) throw_shape(name, "u", "absent", "(batch, length, channels)");
  if (!in.lambda) throw_shape(name, "lambda", "absent", "(channels, state)");
  const Index channels = in.u.extent(2), state = in.lambda.extent(1);
  const std::array<Index, 2> rows{channels, state};
  check_shape(name, "lambda", in.lambda, rows);
  check_shape(name, "B", in.B, rows);
  check_shape(name, "C", in.C, rows);
  check_optional_shape(name, "D", in.D, std::array<Index, 1>{channels});
  if (in.offsets) check_offsets(name, in.offsets, in.u.extent(0), in.u.extent(1));
  check_optional_shape(name, "initial_state", in.initial_state,
                       std::array<Index, 3>{sequence_count(in), channels, state});
}

template <class T, class K, class Space>
void check_diagonal_outputs(std::string_view name, const DiagonalRecurrenceInputs<T, K, Space>& in,
                            const DiagonalRecurrenceOutputs<T, K, Space>& out) {
  check_shape(name, "y", out.y, in.u.extents());
  check_optional_shape(
      name, "final_state", out.final_state,
      std::array<Index, 3>{sequence_count(in), in.u.extent(2), in.lambda.extent(1)});
}

/// Runs every channel with the (ā, B̄) that `mode_at(t, c, n)` gives for its states.
template <class T, class K, class ModeAt>
void run_diagonal_recurrence(const Cpu& backend, const DiagonalRecurrenceInputs<T, K>& in,
                             const DiagonalRecurrenceOutputs<T, K>& out,
                             DiagonalRecurrenceWorkspace<K>& workspace, const ModeAt& mode_at) {
  const Index sequences = sequence_count(in), channels = in.u.extent(2);
  const Index state = in.lambda.extent(1);
  workspace.state.resize({sequences * channels, state});
  parallel_for(backend, sequences * channels, [&](Index task) {
    const Index s = task / channels, c = task % channels;
    const auto [b, begin, end] = sequence_steps(in, s);
    K* x = workspace.state.data() + task * state;
    for (Index n = 0; n < state; ++n) x[n] = in.initial_state ? in.initial_state(s, c, n) : K(0);
    for (Index t = begin; t < end; ++t) {
      const T u = in.u(b, t, c);
      T sum = 0;
      for (Index n = 0; n < state; ++n) {
        const auto [a_bar, b_bar] = mode_at(t, c, n);
        x[n] = a_bar * x[n] + b_bar * u;
        sum += std::real(in.C(c, n) * x[n]);
      }
      out.y(b, t, c) = output_scale<K> * sum + (in.D ? in.D(c) * u : T(0));
    }
    if (out.final_state)
      for (Index n = 0; n < state; ++n) out.final_state(s, c, n) = x[n];
  });
}

}  // namespace detail

/// The recurrence of diagonal systems x' = λ x + B u, y = [2 Re] C·x + D u, sampled with one step
/// Δ a channel:
///
///   x_t = ā x_{t−1} + B̄ u_t,  y_t = [2 Re] C·x_t + D u_t,
///
/// with ā and B̄ by any method (S4D: Gu et al. 2022, section 3). 2 Re for a complex K. The
/// definition that diagonal_scan, which is faster, is tested against.
///
/// @param delta Δ (channels), s
/// @throws ShapeError, and DomainError when the method changes C or D or offsets run backward or
///   past the end
/// Cost: batch · length · channels · state multiply-adds, one discretization of each mode; the same
/// bits for every number of threads; allocates while the workspace grows.
template <class T, class K = T>
void recurrence(const Cpu& backend, Discretization method,
                const DiagonalRecurrenceInputs<T, K>& inputs,
                const std::type_identity_t<View<const T, 1>>& delta,
                const DiagonalRecurrenceOutputs<T, K>& outputs,
                DiagonalRecurrenceWorkspace<K>& workspace) {
  constexpr std::string_view name = "recurrence";
  detail::check_diagonal_inputs(name, method, inputs);
  detail::check_diagonal_outputs(name, inputs, outputs);
  workspace.a_bar.resize(inputs.lambda.extents());
  workspace.b_bar.resize(inputs.lambda.extents());
  discretize_diagonal<K>(backend, method, inputs.lambda, delta, workspace.a_bar, workspace.b_bar);
  for (Index c = 0; c < inputs.lambda.extent(0); ++c)
    for (Index n = 0; n < inputs.lambda.extent(1); ++n) workspace.b_bar(c, n) *= inputs.B(c, n);
  const View<const K, 2> a_bar = workspace.a_bar, b_bar = workspace.b_bar;
  detail::run_diagonal_recurrence(backend, inputs, outputs, workspace,
                                  [&](Index, Index c, Index n) {
                                    return std::pair{a_bar(c, n), b_bar(c, n)};
                                  });
}

/// The same with a Δ that changes from step to step: irregularly sampled sequences.
///
/// @param delta Δ (length, channels), s; a stride of 0 shares it among channels
/// @throws ShapeError, and DomainError when the method changes C or D or offsets run backward or
///   past the end
/// Cost: one discretization of each mode at each step and batch row.
template <class T, class K = T>
void recurrence(const Cpu& backend, Discretization method,
                const DiagonalRecurrenceInputs<T, K>& inputs,
                const std::type_identity_t<View<const T, 2>>& delta,
                const DiagonalRecurrenceOutputs<T, K>& outputs,
                DiagonalRecurrenceWorkspace<K>& workspace) {
  constexpr std::string_view name = "recurrence";
  detail::check_diagonal_inputs(name, method, inputs);
  detail::check_diagonal_outputs(name, inputs, outputs);
  detail::check_shape(name, "delta", delta, std::array{inputs.u.extent(1), inputs.u.extent(2)});
  detail::run_diagonal_recurrence(
      backend, inputs, outputs, workspace, [&](Index t, Index c, Index n) {
        const DiscreteMode<K> mode = discretize(method, inputs.lambda(c, n), delta(t, c));
        return std::pair{mode.a_bar, mode.b_bar_factor * inputs.B(c, n)};
      });
}

}  // namespace ssm
