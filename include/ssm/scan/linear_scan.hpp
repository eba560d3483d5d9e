#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/offsets.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What the linear scan x_t = a_t x_{t−1} + b_t reads. K is float, double or their complex.
/// A stride of 0 repeats: a time-invariant `a` is a (channels) row with strides {0, 0, 1}.
template <class K, class Space = Host>
struct LinearScanInputs {
  View<const K, 3, Space> a;  ///< (batch, length, channels)
  View<const K, 3, Space> b;  ///< (batch, length, channels)
  View<const K, 2, Space>
      initial_state;  ///< x_{−1} (sequences, channels), optional: zero when absent
  View<const Index, 1, Space> offsets =
      {};  ///< (sequences + 1), optional: sequence s of a batch of one
           ///< is [offsets[s], offsets[s+1]), packed end to end
};

struct LinearScanOptions {
  bool reversed = false;  ///< time runs from the last step to the first
};

/// What the linear scan writes.
template <class K, class Space = Host>
struct LinearScanOutputs {
  View<K, 3, Space> x;  ///< (batch, length, channels), may be the memory of b
  View<K, 2, Space>
      final_state;  ///< (sequences, channels), optional, may be the memory of initial_state
};

/// Gradients of a real loss that backward reads; absent ones are zero. The gradient by a complex k
/// is ∂/∂Re k + i ∂/∂Im k.
template <class K, class Space = Host>
struct LinearScanOutputGradients {
  View<const K, 3, Space> x;            ///< (batch, length, channels), optional
  View<const K, 2, Space> final_state;  ///< (sequences, channels), optional
};

/// Gradients that backward overwrites; absent ones are skipped.
template <class K, class Space = Host>
struct LinearScanInputGradients {
  View<K, 3, Space> a;  ///< (batch, length, channels)
  View<K, 3, Space> b;  ///< (batch, length, channels), may be the memory of the gradient of x
  View<K, 2, Space> initial_state;  ///< (sequences, channels)
};

/// Scratch of the linear scan. It grows to the largest call it has served.
template <class K, class Space = Host>
struct LinearScanWorkspace;

template <class K>
struct LinearScanWorkspace<K, Host> {
  Tensor<K, 3> decay;     ///< (batch, chunks, channels): the product of a over the chunk before
  Tensor<K, 3> carry;     ///< (batch, chunks, channels): the state that enters the chunk
  Tensor<K, 3> gradient;  ///< (batch, length, channels), when the gradient of b is not asked for
  Tensor<K, 1> zero;      ///< (channels), stands for an absent gradient of x
};

namespace detail {

/// How a linear scan is cut into pieces. It depends on the shape alone, so that the bits do not
/// depend on the number of threads.
struct LinearScanPlan {
  Index block, blocks;  ///< channels of a piece, and pieces over the channels
  Index chunk, chunks;  ///< steps of a piece, and pieces over time
};

/// Time is cut only when batch and channels alone keep few threads busy, as a cut scan reads its
/// inputs twice, and never into chunks too short to pay for a carry.
inline LinearScanPlan plan_linear_scan(Index batch, Index length, Index channels) {
  constexpr Index block = 256, enough_pieces = 32, shortest_chunk = 256;
  const Index blocks = (channels + block - 1) / block;
  const Index pieces = std::max<Index>(1, batch * blocks);
  const Index cuts = std::min((enough_pieces + pieces - 1) / pieces, length / shortest_chunk);
  const Index chunk = cuts <= 1 ? std::max<Index>(1, length) : (length + cuts - 1) / cuts;
  return {block, blocks, chunk, std::max<Index>(1, (length + chunk - 1) / chunk)};
}

/// The same run of channels at every step of one sequence, in the order of time.
template <class K, int Width>
struct ScanRows {
  using Array = Eigen::Array<std::remove_const_t<K>, Width, 1>;
  using Row = Eigen::Map<std::conditional_t<std::is_const_v<K>, const Array, Array>>;
  /// Where a running row lives: a narrow one in registers, a wide one in its memory.
  using Running = std::conditional_t<Width == Eigen::Dynamic, Row, Array>;

  K* data;
  Index stride, width;

  ScanRows(const View<K, 3>& view, Index sequence, Index channel, Index count)
      : data(view.size() > 0 ? view.data() + sequence * view.stride(0) + channel : nullptr),
        stride(view.stride(1)),
        width(count) {}

  [[nodiscard]] Row operator()(Index step) const { return Row(data + step * stride, width); }
};

/// The recurrence of the linear scan, x_t = a_t x_{t−1} + b_t, or, with Adjoint, that of its
/// gradient walked back in time, x_t = conj(a_{t−1}) x_{t−1} + b_t with a_{−1} = 1.
template <bool Adjoint, class K, int Width>
struct LinearRecurrence {
  ScanRows<const K, Width> a, b;

  LinearRecurrence(const View<const K, 3>& a_view, const View<const K, 3>& b_view, Index sequence,
                   Index channel, Index count)
      : a(a_view, sequence, channel, count), b(b_view, sequence, channel, count) {}

  template <class Previous, class Next>
  void step(Index t, const Previous& previous, Next&& next) const {
    if constexpr (!Adjoint)
      next = a(t) * previous + b(t);
    else if (t == 0)
      next = previous + b(t);
    else
      next = a(t - 1).conjugate() * previous + b(t);
  }

  template <class Product>
  void decay(Index t, Product&& product) const {
    if constexpr (!Adjoint)
      product *= a(t);
    else if (t > 0)
      product *= a(t - 1).conjugate();
  }
};

/// Calls body(width, sequence, channel, count) for the runs of channels of one piece: the whole
/// row, or each channel by itself where a row is too narrow for vectors.
template <class Body>
void for_runs(const LinearScanPlan& plan, Index piece, Index channels, const Body& body) {
  constexpr Index narrow = 8;
  const Index sequence = piece / plan.blocks, channel = piece % plan.blocks * plan.block;
  const Index count = std::min(plan.block, channels - channel);
  if (count >= narrow)
    body(std::integral_constant<int, Eigen::Dynamic>(), sequence, channel, count);
  else
    for (Index c = 0; c < count; ++c)
      body(std::integral_constant<int, 1>(), sequence, channel + c, Index(1));
}

/// Runs the recurrence over views whose first step in time is their first in memory.
///
/// Three passes over fixed pieces: every chunk of time finds its decay and its end state from zero;
/// the carry runs over the chunks; every chunk runs again from the state that enters it. A single
/// chunk needs the last pass only. `emit(width, sequence, channel, count, t)` follows every row.
template <bool Adjoint, class K, class Emit>
void scan_pieces(const Cpu& backend, const View<const K, 3>& a, const View<const K, 3>& b,
                 const View<const K, 2>& initial_state, const View<K, 3>& x,
                 LinearScanWorkspace<K>& workspace, const Emit& emit) {
  const Index batch = x.extent(0), length = x.extent(1), channels = x.extent(2);
  const LinearScanPlan plan = plan_linear_scan(batch, length, channels);
  workspace.carry.resize({batch, plan.chunks, channels});
  workspace.decay.resize({batch, plan.chunks, channels});
  const View<K, 3> carries = workspace.carry, decays = workspace.decay;
  const Index pieces = batch * plan.blocks;

  parallel_for(backend, pieces * (plan.chunks - 1), [&](Index i) {
    const Index chunk = i / pieces;
    for_runs(plan, i % pieces, channels, [&](auto width, Index sequence, Index channel, Index n) {
      using Rows = ScanRows<K, width>;
      const LinearRecurrence<Adjoint, K, width> recurrence(a, b, sequence, channel, n);
      const Rows carry(carries, sequence, channel, n), decay(decays, sequence, channel, n);
      typename Rows::Running state = carry(chunk + 1), product = decay(chunk + 1);
      state.setZero();
      product.setOnes();
      for (Index t = chunk * plan.chunk; t < (chunk + 1) * plan.chunk; ++t) {
        recurrence.step(t, state, state);
        recurrence.decay(t, product);
      }
      carry(chunk + 1) = state;
      decay(chunk + 1) = product;
    });
  });

  parallel_for(backend, batch, [&](Index sequence) {
    for (Index c = 0; c < channels; ++c) {
      carries(sequence, 0, c) = initial_state ? initial_state(sequence, c) : K(0);
      for (Index chunk = 1; chunk < plan.chunks; ++chunk)
        carries(sequence, chunk, c) += decays(sequence, chunk, c) * carries(sequence, chunk - 1, c);
    }
  });

  parallel_for(backend, pieces * plan.chunks, [&](Index i) {
    const Index chunk = i / pieces;
    const Index begin = chunk * plan.chunk, end = std::min(length, begin + plan.chunk);
    for_runs(plan, i % pieces, channels, [&](auto width, Index sequence, Index channel, Index n) {
      using Rows = ScanRows<K, width>;
      const LinearRecurrence<Adjoint, K, width> recurrence(a, b, sequence, channel, n);
      const Rows rows(x, sequence, channel, n);
      const auto entering = Rows(carries, sequence, channel, n)(chunk);
      if constexpr (width == Eigen::Dynamic) {
        for (Index t = begin; t < end; ++t) {
          recurrence.step(t, t == begin ? entering : rows(t - 1), rows(t));
          emit(width, sequence, channel, n, t);
        }
      } else {
        typename Rows::Running state = entering;
        for (Index t = begin; t < end; ++t) {
          recurrence.step(t, state, state);
          rows(t) = state;
          emit(width, sequence, channel, n, t);
        }
      }
    });
  });
}

/// The shape of a sequence argument, whose channels must lie side by side.
template <class K, class Space>
void check_sequence(std::string_view function, std::string_view argument,
                    const View<K, 3, Space>& view, const std::array<Index, 3>& want) {
  check_shape(function, argument, view, want);
  if (want[2] > 1 && view.stride(2) != 1)
    throw_shape(function, std::string(argument) + "'s stride of channels",
                std::to_string(view.stride(2)), "1");
}

template <class K>
View<K, 3> in_time(const View<K, 3>& view, const LinearScanOptions& options) {
  return options.reversed ? view.reversed(1) : view;
}

/// (sequences, channels)
template <class K, class Space>
std::array<Index, 2> state_shape(const LinearScanInputs<K, Space>& inputs) {
  return {inputs.offsets ? inputs.offsets.extent(0) - 1 : inputs.b.extent(0), inputs.b.extent(2)};
}

template <class K, class Space>
void check_linear_scan_inputs(std::string_view name, const LinearScanInputs<K, Space>& inputs) {
  const auto& [batch, length, channels] = inputs.b.extents();
  check_sequence(name, "a", inputs.a, inputs.b.extents());
  check_sequence(name, "b", inputs.b, inputs.b.extents());
  if (inputs.offsets) check_offsets(name, inputs.offsets, batch, length);
  check_optional_shape(name, "initial_state", inputs.initial_state, state_shape(inputs));
}

template <class K, class Space>
void check_linear_scan_gradients(std::string_view name, const LinearScanInputs<K, Space>& inputs,
                                 const View<const K, 3, Space>& x,
                                 const LinearScanOutputGradients<K, Space>& output_gradients,
                                 const LinearScanInputGradients<K, Space>& input_gradients) {
  const auto shape = inputs.b.extents();
  const auto states = state_shape(inputs);
  check_linear_scan_inputs(name, inputs);
  check_sequence(name, "x", x, shape);
  if (output_gradients.x) check_sequence(name, "gradient of x", output_gradients.x, shape);
  check_optional_shape(name, "gradient of final_state", output_gradients.final_state, states);
  if (input_gradients.a) check_sequence(name, "gradient of a", input_gradients.a, shape);
  if (input_gradients.b) check_sequence(name, "gradient of b", input_gradients.b, shape);
  check_optional_shape(name, "gradient of initial_state", input_gradients.initial_state, states);
}

/// Sequence s of packed ones, as a batch of one.
template <class V>
V packed_steps(const V& view, const View<const Index, 1>& offsets, Index s) {
  return view ? view.slice(1, offsets(s), offsets(s + 1) - offsets(s)) : view;
}
template <class V>
V packed_state(const V& view, Index s) {
  return view ? view.slice(0, s, 1) : view;
}
template <class K>
LinearScanInputs<K> packed_inputs(const LinearScanInputs<K>& in, Index s) {
  return {packed_steps(in.a, in.offsets, s),
          packed_steps(in.b, in.offsets, s),
          packed_state(in.initial_state, s),
          {}};
}

}  // namespace detail

/// The linear scan as its formula says, one element after the other: the definition that
/// linear_scan is tested against. Takes any strides.
template <class K>
void linear_scan_reference(const LinearScanInputs<K>& inputs, const LinearScanOptions& options,
                           const LinearScanOutputs<K>& outputs) {
  const auto [batch, length, channels] = inputs.b.extents();
  const auto a = detail::in_time(inputs.a, options), b = detail::in_time(inputs.b, options);
  const auto x = detail::in_time(outputs.x, options);
  for (Index s = 0; s < batch; ++s)
    for (Index c = 0; c < channels; ++c) {
      K state = inputs.initial_state ? inputs.initial_state(s, c) : K(0);
      for (Index t = 0; t < length; ++t) {
        state = a(s, t, c) * state + b(s, t, c);
        x(s, t, c) = state;
      }
      if (outputs.final_state) outputs.final_state(s, c) = state;
    }
}

/// The first-order linear scan x_t = a_t x_{t−1} + b_t of every channel by itself (Blelloch 1990,
/// section 1.4: the operator (a, b)∘(a', b') = (a'a, a'b + b')).
///
/// With few channels and many steps, time is cut into chunks that run side by side, joined by the
/// product of `a` over each. Where |a| > 1 so long that this product overflows, the state after it
/// is NaN or infinite.
///
/// @throws ShapeError when shapes differ or the channels of a, b or x are not side by side,
/// DomainError for offsets that run backward or past the end
/// Cost: 2 flops an element, 6 when time is cut; the same bits for every number of threads;
/// allocates while the workspace grows.
template <class K>
void linear_scan(const Cpu& backend, const LinearScanInputs<K>& inputs,
                 const LinearScanOptions& options, const LinearScanOutputs<K>& outputs,
                 LinearScanWorkspace<K>& workspace) {
  constexpr std::string_view name = "linear_scan";
  const auto [batch, length, channels] = inputs.b.extents();
  detail::check_linear_scan_inputs(name, inputs);
  detail::check_sequence(name, "x", outputs.x, inputs.b.extents());
  detail::check_optional_shape(name, "final_state", outputs.final_state,
                               detail::state_shape(inputs));
  if (inputs.offsets) {
    for (Index s = 0; s + 1 < inputs.offsets.extent(0); ++s)
      linear_scan(backend, detail::packed_inputs(inputs, s), options,
                  {detail::packed_steps(outputs.x, inputs.offsets, s),
                   detail::packed_state(outputs.final_state, s)},
                  workspace);
    return;
  }

  const View<K, 3> x = detail::in_time(outputs.x, options);
  detail::scan_pieces<false>(backend, detail::in_time(inputs.a, options),
                             detail::in_time(inputs.b, options), inputs.initial_state, x, workspace,
                             [](auto...) {});
  if (!outputs.final_state) return;
  const View<const K, 3> last = length > 0 ? x.slice(1, length - 1, 1) : workspace.carry.view();
  for (Index s = 0; s < batch; ++s)
    for (Index c = 0; c < channels; ++c) outputs.final_state(s, c) = last(s, 0, c);
}

/// The gradients of the linear scan. With g_t = ∂x_t + conj(a_{t+1}) g_{t+1}, which starts from
/// the gradient of the final state:
///
///   ∂b_t = g_t,  ∂a_t = g_t conj(x_{t−1}),  ∂x_{−1} = conj(a_0) g_0,
///
/// the same scan walked back in time.
///
/// @param inputs, options as given to linear_scan
/// @param x what linear_scan wrote, (batch, length, channels)
/// @throws ShapeError as linear_scan
/// Cost: twice linear_scan; the same bits for every number of threads.
template <class K>
void linear_scan_backward(const Cpu& backend, const LinearScanInputs<K>& inputs,
                          const LinearScanOptions& options,
                          const std::type_identity_t<View<const K, 3>>& x,
                          const LinearScanOutputGradients<K>& output_gradients,
                          const LinearScanInputGradients<K>& input_gradients,
                          LinearScanWorkspace<K>& workspace) {
  constexpr std::string_view name = "linear_scan_backward";
  const auto shape = inputs.b.extents();
  const auto [batch, length, channels] = shape;
  detail::check_linear_scan_gradients(name, inputs, x, output_gradients, input_gradients);
  if (inputs.offsets) {
    const auto& offsets = inputs.offsets;
    for (Index s = 0; s + 1 < offsets.extent(0); ++s)
      linear_scan_backward(backend, detail::packed_inputs(inputs, s), options,
                           detail::packed_steps(x, offsets, s),
                           {detail::packed_steps(output_gradients.x, offsets, s),
                            detail::packed_state(output_gradients.final_state, s)},
                           {detail::packed_steps(input_gradients.a, offsets, s),
                            detail::packed_steps(input_gradients.b, offsets, s),
                            detail::packed_state(input_gradients.initial_state, s)},
                           workspace);
    return;
  }

  View<const K, 3> x_gradient = output_gradients.x;
  if (!x_gradient) {
    workspace.zero.resize({channels});
    workspace.zero.fill(K(0));
    x_gradient = {workspace.zero.data(), shape, {0, 0, 1}};
  }
  View<K, 3> b_gradient = input_gradients.b;
  if (!b_gradient) {
    workspace.gradient.resize(shape);
    b_gradient = workspace.gradient;
  }

  // Row r of these is step length − 1 − r in time.
  const LinearScanOptions backwards{!options.reversed};
  const auto a = detail::in_time(inputs.a, backwards);
  const auto states = detail::in_time(x, backwards);
  const auto g = detail::in_time(b_gradient, backwards);
  const auto a_gradient =
      input_gradients.a ? detail::in_time(input_gradients.a, backwards) : View<K, 3>();
  const auto emit = [&, length = length](auto width, Index sequence, Index channel, Index count,
                                         Index r) {
    using Rows = detail::ScanRows<K, width>;
    if (!a_gradient) return;
    const auto gradient = Rows(g, sequence, channel, count)(r);
    auto target = Rows(a_gradient, sequence, channel, count)(r);
    if (r + 1 < length) {
      const detail::ScanRows<const K, width> rows(states, sequence, channel, count);
      target = gradient * rows(r + 1).conjugate();
    } else if (inputs.initial_state) {
      for (Index c = 0; c < count; ++c)
        target(c) = gradient(c) * Eigen::numext::conj(inputs.initial_state(sequence, channel + c));
    } else {
      target.setZero();
    }
  };
  detail::scan_pieces<true>(backend, a, detail::in_time(x_gradient, backwards),
                            output_gradients.final_state, g, workspace, emit);

  if (!input_gradients.initial_state) return;
  for (Index s = 0; s < batch; ++s)
    for (Index c = 0; c < channels; ++c)
      input_gradients.initial_state(s, c) =
          length > 0 ? Eigen::numext::conj(a(s, length - 1, c)) * g(s, length - 1, c)
                     : workspace.carry(s, 0, c);
}

}  // namespace ssm
