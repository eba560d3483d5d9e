#pragma once

#include "diagonal_backward.hpp"
#include "scratch.hpp"
#include "ssm/cuda/diagonal_scan.hpp"
#include "ssm/scan/detail/diagonal_scan_checks.hpp"

namespace ssm {
namespace kernels {

inline constexpr double diagonal_ends_alone = 0.7;  ///< no C, no output: operations of a state

/// Of rows that are cut so that a device that holds so much of `Kernel` is busy.
template <class Kernel, class T, class K>
DiagonalArguments<T, Element<K>> diagonal_arguments(const char* function,
                                                    const DiagonalScanInputs<T, K, Device>& in,
                                                    const DiagonalScanOptions& options,
                                                    Index granularity) {
  using E = Element<K>;
  const Index rows = in.u.extent(0), length = in.u.extent(1), channels = in.u.extent(2);
  SelectiveShape shape({rows, length, channels, in.lambda.extent(1), 1, rows}, in.sequences);
  shape.cut(residency<Kernel>(function, shape.threads(), 0), granularity, diagonal_ends_alone);
  return {shape,
          options.method,
          Array<const T, 3>(in.u, in.sequences),
          Array<const E, 2>(in.lambda),
          Array<const E, 2>(in.B),
          Array<const E, 2>(in.C),
          Array<const T, 1>(in.D),
          Array<const T, 1>(in.delta.constant),
          Array<const E, 3>(in.initial_state)};
}

/// The states that enter the pieces.
template <class T, class E>
void enter_pieces(const Cuda& backend, const char* function, const DiagonalArguments<T, E>& in,
                  E* entries) {
  const SelectiveShape& shape = in.shape;
  launch(backend, function, shape.blocks(), shape.threads(), 0,
         DiagonalForward<T, E>{in, {}, {}, entries, nullptr, nullptr, nullptr});
  launch_elementwise(backend, function, shape.states(), DiagonalCarry<T, E>{in, entries});
}

}  // namespace kernels

template <class T, class K>
void diagonal_scan(const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
                   const DiagonalScanOptions& options,
                   const std::type_identity_t<DiagonalScanOutputs<T, K, Device>>& outputs,
                   DiagonalScanScratch<T, K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "diagonal_scan";
  const Index rows = inputs.u.extent(0), length = inputs.u.extent(1), channels = inputs.u.extent(2);
  const Sequences<Device>& time = inputs.sequences;
  ssm::detail::check_diagonal_inputs(function, inputs, options);
  ssm::detail::check_constant(function, inputs.delta);
  ssm::detail::check_diagonal_outputs(function, inputs, outputs);
  if (channels == 0 || ssm::detail::diagonal_states(inputs)[0] == 0) return;

  using Forward = DiagonalForward<T, E>;
  DiagonalArguments<T, E> in = diagonal_arguments<Forward>(function, inputs, options, 1);
  const SelectiveShape& shape = in.shape;
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  // Another piece may still have to read initial states when one writes the final ones.
  const bool overwritten =
      cut && time.offsets && ssm::detail::is_same_memory(outputs.final_state, inputs.initial_state);
  struct Arrays {
    E *entries, *initial;
    T* partial_y;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.cuts.count * shape.states()) : nullptr,
                  overwritten ? s.array<E>(inputs.initial_state.size()) : nullptr,
                  sliced ? s.array<T>(shape.slices * inputs.u.size()) : nullptr};
  });
  if (overwritten)
    in.initial_state = copy_elements(backend, function, inputs.initial_state, arrays.initial);
  if (cut) enter_pieces(backend, function, in, arrays.entries);
  const Array<T, 3> y(outputs.y, time);
  launch(backend, function, shape.blocks(), shape.threads(), 0,
         Forward{in, y, Array<E, 3>(outputs.final_state), nullptr, arrays.entries, nullptr,
                 arrays.partial_y});
  if (sliced)
    launch_elementwise(backend, function, inputs.u.size(),
                       DiagonalJoinSlices<T>{in.u, in.D, y, arrays.partial_y, shape.slices, rows,
                                             length, channels});
}

template <class T, class K>
void diagonal_scan_backward(
    const Cuda& backend, const DiagonalScanInputs<T, K, Device>& inputs,
    const DiagonalScanOptions& options,
    const std::type_identity_t<DiagonalScanOutputGradients<T, K, Device>>& output_gradients,
    const std::type_identity_t<DiagonalScanInputGradients<T, K, Device>>& input_gradients,
    DiagonalScanScratch<T, K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  using Forward = DiagonalForward<T, E>;
  using Backward = DiagonalBackward<T, E>;
  const char* function = "diagonal_scan_backward";
  const auto& dout = output_gradients;
  const auto& din = input_gradients;
  const Index rows = inputs.u.extent(0), length = inputs.u.extent(1), channels = inputs.u.extent(2);
  const Sequences<Device>& time = inputs.sequences;
  ssm::detail::check_diagonal_inputs(function, inputs, options);
  ssm::detail::check_constant(function, inputs.delta);
  ssm::detail::check_diagonal_gradients(function, inputs, dout, din);
  if (channels == 0) return;

  const DiagonalArguments<T, E> in =
      diagonal_arguments<Backward>(function, inputs, options, saved_steps<E>);
  const SelectiveShape& shape = in.shape;
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  const bool by_a = din.lambda || din.delta, by_b = by_a || din.B;
  const bool runs = ssm::detail::diagonal_states(inputs)[0] > 0;
  const Index pieces = runs ? rows * shape.cuts.count : 0, modes = inputs.lambda.size();
  // Another piece may still have to read gradients of final states when one writes those of initial
  // ones.
  const bool overwritten = cut && ssm::detail::is_same_memory(din.initial_state, dout.final_state);
  struct Arrays {
    E *entries, *exits, *saved, *dfinal;
    T* partial_u;
    double* ddelta;
    DiagonalPartials<T, E> partials;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    const Index tiles = (length + saved_steps<E> - 1) / saved_steps<E>;
    const auto wanted = [&](bool is, Index count) { return is ? s.array<E>(count) : nullptr; };
    const auto parts = [&](bool is, Index count) { return is ? s.array<T>(count) : nullptr; };
    return Arrays{wanted(cut, pieces * modes),
                  wanted(cut, pieces * modes),
                  wanted(by_a || din.C, tiles * shape.states()),
                  wanted(overwritten, dout.final_state.size()),
                  parts(sliced && din.u, shape.slices * inputs.u.size()),
                  din.delta ? s.array<double>(modes) : nullptr,
                  {wanted(by_a, pieces * modes), wanted(by_b, pieces * modes),
                   wanted(static_cast<bool>(din.C), pieces * modes),
                   parts(static_cast<bool>(din.D), pieces * channels)}};
  });
  const Array<const T, 3> dy(dout.y, time);
  const Array<T, 3> du(din.u, time);
  if (runs) {
    const Array<const E, 3> dfinal =
        overwritten ? copy_elements(backend, function, dout.final_state, arrays.dfinal)
                    : Array<const E, 3>(dout.final_state);
    if (arrays.saved != nullptr) {
      if (cut) enter_pieces(backend, function, in, arrays.entries);
      launch(backend, function, shape.blocks(), shape.threads(), 0,
             Forward{in, {}, {}, nullptr, arrays.entries, arrays.saved, nullptr});
    }
    if (cut) {
      launch(backend, function, shape.blocks(), shape.threads(), 0,
             DiagonalAdjoint<T, E>{in, dy, dfinal, arrays.exits});
      launch_elementwise(backend, function, shape.states(),
                         DiagonalCarryBack<T, E>{in, arrays.exits});
    }
    launch(backend, function, shape.blocks(), shape.threads(), 0,
           Backward{in, dy, dfinal, du, Array<E, 3>(din.initial_state), arrays.exits, arrays.saved,
                    arrays.partials, arrays.partial_u});
    if (arrays.partial_u != nullptr)
      launch_elementwise(backend, function, inputs.u.size(),
                         DiagonalJoinSlices<T>{dy, in.D, du, arrays.partial_u, shape.slices, rows,
                                               length, channels});
  }
  if (by_b || din.C)
    launch_elementwise(
        backend, function, modes,
        DiagonalModeGradients<T, E>{in, arrays.partials, Array<E, 2>(din.lambda),
                                    Array<E, 2>(din.B), Array<E, 2>(din.C), arrays.ddelta, pieces});
  if (din.delta || din.D)
    launch_elementwise(
        backend, function, channels,
        DiagonalChannelGradients<T>{Array<T, 1>(din.delta), Array<T, 1>(din.D), arrays.ddelta,
                                    arrays.partials.D, channels, shape.state, pieces});
}

}  // namespace ssm

#define SSM_DIAGONAL_SCAN(T, K)                                                         \
  template void ssm::diagonal_scan(                                                     \
      const Cuda&, const DiagonalScanInputs<T, K, Device>&, const DiagonalScanOptions&, \
      const DiagonalScanOutputs<T, K, Device>&, DiagonalScanScratch<T, K, Device>&);    \
  template void ssm::diagonal_scan_backward(                                            \
      const Cuda&, const DiagonalScanInputs<T, K, Device>&, const DiagonalScanOptions&, \
      const DiagonalScanOutputGradients<T, K, Device>&,                                 \
      const DiagonalScanInputGradients<T, K, Device>&, DiagonalScanScratch<T, K, Device>&);
