#pragma once

#include "launch.hpp"
#include "scratch.hpp"
#include "selective_adjoints.hpp"
#include "selective_backward.hpp"
#include "selective_backward_tiles.hpp"
#include "selective_forward.hpp"
#include "selective_pieces.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"

namespace ssm {
namespace kernels {

/// The most steps of a tile, up to forward_tile_steps and a multiple of saved_steps, whose arrays
/// leave room for other blocks beside this one.
template <class E>
int most_tile_steps(Index step_bytes) {
  constexpr Index enough = 40 * 1024;
  int steps = forward_tile_steps;
  while (steps > saved_steps<E> && steps * step_bytes > enough) steps /= 2;
  return steps;
}

/// Pieces of time are whole tiles.
inline constexpr Index piece_granularity = forward_tile_steps;

/// Calls body with how general the kernels must be and, for the 9 to 16 float states that Mamba
/// has, full blocks, rows of one sequence and no option that costs registers, how many lanes share
/// a channel.
template <class E, class Body>
void with_kernels(bool general, const SelectiveShape& shape, const Body& body) {
  if (general) return body(std::true_type(), std::integral_constant<int, 0>());
  if constexpr (std::is_same_v<E, float>)
    if (shape.lanes == 4 && shape.block_channels == full_width &&
        shape.sequences.offsets == nullptr)
      return body(std::false_type(), std::integral_constant<int, 4>());
  body(std::false_type(), std::integral_constant<int, 0>());
}

}  // namespace kernels

template <class T, class K>
void selective_scan(const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K, Device>>& outputs,
                    SelectiveScanScratch<T, K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  using R = kernels::Real<E>;
  const char* function = "selective_scan";
  const auto sizes = ssm::detail::check_selective_inputs(function, inputs, options);
  ssm::detail::check_selective_outputs(function, outputs, inputs, sizes);
  scratch.call.drop();
  SelectiveShape shape(sizes, inputs.sequences);
  const bool is_general = SelectiveArguments<T, E>(inputs, options).is_general();
  Index step_bytes = 0;
  int steps = 0;
  with_kernels<E>(is_general, shape, [&](auto general, auto lanes) {
    using Forward = SelectiveForward<T, E, general(), lanes()>;
    step_bytes = Forward::step_bytes(shape);
    steps = lanes() > 0 ? forward_tile_steps : most_tile_steps<E>(step_bytes);
    constexpr double ends_alone = 0.6;  // no C, no output: instructions counted
    shape.cut(residency<Forward>(function, shape.threads(), steps * step_bytes), piece_granularity,
              ends_alone);
  });
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  E* states = nullptr;
  if (options.keep) {
    const Index tiles = (sizes.length + saved_steps<E> - 1) / saved_steps<E>;
    states = static_cast<E*>(scratch.kept.reserve(
        backend, ssm::detail::tensor_bytes<E, 4>(
                     function, {sizes.batch, tiles, sizes.channels, sizes.state})));
  }
  auto read = inputs;
  const bool overwritten = (options.keep || cut) &&
                           ssm::detail::is_same_memory(outputs.final_state, inputs.initial_state);
  resize(backend, scratch.initial, overwritten ? sizes.states() : std::array<Index, 3>{});
  if (overwritten) {
    copy_elements(backend, function, inputs.initial_state,
                  reinterpret_cast<E*>(scratch.initial.data()));
    read.initial_state = scratch.initial.view();
  }
  if (options.keep)
    scratch.call.keep(sizes.call(), ssm::detail::selective_variant(inputs, options));
  if (sizes.channels == 0 || sizes.sequences == 0) return;

  const SelectiveArguments<T, E> in(read, options);
  struct Arrays {
    E* entries;
    R *totals, *partial_y;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.cuts.count * shape.states()) : nullptr,
                  cut ? s.array<R>(shape.cuts.count * shape.rows * shape.channels) : nullptr,
                  sliced ? s.array<R>(shape.slices * inputs.u.size()) : nullptr};
  });
  with_kernels<E>(is_general, shape, [&](auto general, auto lanes) {
    using Forward = SelectiveForward<T, E, general(), lanes()>;
    if (cut) {
      launch(backend, function, shape.blocks(), shape.threads(), steps * step_bytes,
             SelectivePieceEnds<T, E, general(), lanes()>{in, shape, steps, arrays.entries,
                                                          arrays.totals,
                                                          has_packs(in, shape) && in.softplus});
      launch_elementwise(backend, function, shape.states(),
                         SelectiveCarry<T, E>{in, shape, arrays.entries, arrays.totals});
    }
    const Array<T, 3> y(outputs.y, inputs.sequences);
    launch(backend, function, shape.blocks(), shape.threads(), steps * step_bytes,
           Forward{in, shape, steps, y, Array<E, 3>(outputs.final_state), arrays.entries, states,
                   arrays.partial_y,
                   has_packs(in, shape) && in.softplus && in.z.present && has_pairs(in.z) &&
                       has_pairs(y)});
  });
  if (sliced)
    launch_elementwise(
        backend, function, inputs.u.size(),
        SelectiveJoinSlices<T, E>{in, Array<T, 3>(outputs.y, inputs.sequences), arrays.partial_y,
                                  shape.slices, shape.rows, shape.length, shape.channels});
}

template <class T, class K>
void selective_scan_backward(
    const Cuda& backend, const SelectiveScanInputs<T, K, Device>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K, Device>>& output_gradients,
    const std::type_identity_t<SelectiveScanInputGradients<T, K, Device>>& input_gradients,
    SelectiveScanScratch<T, K, Device>& scratch) {
  using namespace kernels;
  using E = Element<K>;
  using R = kernels::Real<E>;
  using V = typename SelectiveArguments<T, E>::V;
  const char* function = "selective_scan_backward";
  const auto sizes = ssm::detail::check_selective_inputs(function, inputs, options);
  ssm::detail::check_selective_gradients(function, output_gradients, input_gradients, inputs,
                                         sizes);
  scratch.call.check(function, "selective_scan with options.keep", sizes.call(),
                     ssm::detail::selective_variant(inputs, options));
  if (sizes.channels == 0) return;

  auto read = inputs;
  if (scratch.initial.size() > 0) read.initial_state = scratch.initial.view();
  const SelectiveArguments<T, E> in(read, options);
  SelectiveGradients<T, E> gradients(output_gradients, input_gradients, inputs.sequences);
  // Fewer lanes and threads than forward has, for the shared memory that they take.
  SelectiveShape shape(sizes, inputs.sequences, CoefficientSums<E>::most_lanes, 128);
  bool in_packs = false;
  with_kernels<E>(in.is_general(), shape, [&](auto general, auto lanes) {
    constexpr double exits_alone = 0.35;  // the adjoint without its gradients: instructions counted
    if constexpr (std::is_same_v<E, float>) {
      using Tiles = SelectiveBackwardTiles<T>;
      in_packs = lanes() == 4 && has_packs(in, shape) && have_packs(gradients, in, shape);
      if (in_packs) {
        shape.cut(residency<Tiles>(function, shape.threads(), Tiles::shared_bytes()),
                  piece_granularity, exits_alone);
        return;
      }
    }
    using Backward = SelectiveBackward<T, E, general()>;  // what tiles in packs leave
    shape.cut(residency<Backward>(function, shape.threads(), Backward::shared_bytes(shape)),
              piece_granularity, exits_alone);
  });
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  const Index pieces = shape.rows * shape.cuts.count;
  const auto& din = input_gradients;
  // Another piece may still have to read the gradients of final states when one writes those of
  // initial ones.
  const bool overwritten =
      cut && ssm::detail::is_same_memory(din.initial_state, output_gradients.final_state);
  struct Arrays {
    E *exits, *dfinal;
    R* totals;
    SelectivePartials<E> partials;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    const auto of_states = [&](bool wanted_) {
      return wanted_ ? s.array<E>(shape.cuts.count * shape.states()) : nullptr;
    };
    const auto of_channels = [&](bool wanted_) {
      return wanted_ ? s.array<R>(pieces * shape.channels) : nullptr;
    };
    Arrays a{};
    a.exits = of_states(cut);
    if (overwritten) a.dfinal = s.array<E>(output_gradients.final_state.size());
    a.totals = of_channels(cut);
    a.partials.A = of_states(static_cast<bool>(din.A));
    a.partials.B_constant = of_states(static_cast<bool>(din.B.constant));
    a.partials.C_constant = of_states(static_cast<bool>(din.C.constant));
    a.partials.D = of_channels(static_cast<bool>(din.D));
    a.partials.bias = of_channels(static_cast<bool>(din.delta_bias));
    if (din.B.varying || din.C.varying)
      a.partials.coefficients =
          s.array<E>(2 * shape.panels * shape.rows * shape.length * shape.state);
    if (sliced) a.partials.slices = s.array<R>(3 * shape.slices * inputs.u.size());
    return a;
  });
  const SelectivePartials<E>& partials = arrays.partials;
  if (overwritten)
    gradients.final_state =
        copy_elements(backend, function, output_gradients.final_state, arrays.dfinal);

  if (sizes.sequences > 0) {
    with_kernels<E>(in.is_general(), shape, [&](auto general, auto lanes) {
      using Forward = SelectiveForward<T, E, general(), lanes()>;
      using Backward = SelectiveBackward<T, E, general()>;
      if (cut) {
        const Index step_bytes = Forward::step_bytes(shape);
        const int steps = lanes() > 0 ? forward_tile_steps : most_tile_steps<E>(step_bytes);
        launch(backend, function, shape.blocks(), shape.threads(), steps * step_bytes,
               SelectivePieceAdjoints<T, E, general(), lanes()>{in, shape, gradients, steps,
                                                                arrays.exits, arrays.totals});
        launch_elementwise(
            backend, function, shape.states(),
            SelectiveCarryBack<T, E>{in, shape, gradients, arrays.exits, arrays.totals});
      }
      const E* saved = static_cast<const E*>(scratch.kept.data());
      if constexpr (std::is_same_v<E, float>) {
        using Tiles = SelectiveBackwardTiles<T>;
        if (in_packs) {
          launch(backend, function, shape.blocks(), shape.threads(), Tiles::shared_bytes(),
                 Tiles{in, shape, gradients, partials, arrays.exits, saved});
          return;
        }
      }
      launch(backend, function, shape.blocks(), shape.threads(), Backward::shared_bytes(shape),
             Backward{in, shape, gradients, partials, arrays.exits, saved});
      if (sliced) {
        SelectiveShape one_slice = shape;
        one_slice.slices = 1;
        launch(backend, function, one_slice.blocks(), shape.threads(),
               shared_size<R>(shape.threads()),
               SelectiveJoinGradients<T, E>{in, one_slice, shape.slices, gradients, partials});
      }
    });
  }

  const Index sums = sizes.sequences > 0 ? pieces : 0;
  const auto sum_pieces = [&](const View<K, 2, Device>& to, const E* from) {
    if (to)
      launch_elementwise(
          backend, function, to.size(),
          SelectiveSumPieces<E>{Array<E, 2>(to), from, sums, shape.channels, shape.state});
  };
  const auto sum_channels = [&](const View<ssm::Real<K>, 1, Device>& to, const R* from) {
    if (!to) return;
    const View<ssm::Real<K>, 2, Device> column(to.data(), {to.extent(0), 1}, {to.stride(0), 1});
    launch_elementwise(backend, function, to.size(),
                       SelectiveSumPieces<R>{Array<R, 2>(column), from, sums, shape.channels, 1});
  };
  const auto sum_panels = [&](const auto& to, Index which) {
    if (!to) return;
    const Index each = shape.rows * shape.length * shape.state;
    launch_elementwise(
        backend, function, to.size(),
        SelectiveSumPanels<E, V>{Array<V, 4>(to, inputs.sequences),
                                 partials.coefficients + which * each, shape.group_panels(),
                                 shape.groups, shape.rows, shape.length, shape.state});
  };
  sum_pieces(din.A, partials.A);
  sum_pieces(din.B.constant, partials.B_constant);
  sum_pieces(din.C.constant, partials.C_constant);
  sum_channels(din.D, partials.D);
  sum_channels(din.delta_bias, partials.bias);
  sum_panels(din.B.varying, 0);
  sum_panels(din.C.varying, 1);
}

}  // namespace ssm

/// Defines the selective scan for one type of storage.
#define SSM_SELECTIVE_SCAN(T, K)                                                          \
  template void ssm::selective_scan(                                                      \
      const Cuda&, const SelectiveScanInputs<T, K, Device>&, const SelectiveScanOptions&, \
      const SelectiveScanOutputs<T, K, Device>&, SelectiveScanScratch<T, K, Device>&);    \
  template void ssm::selective_scan_backward(                                             \
      const Cuda&, const SelectiveScanInputs<T, K, Device>&, const SelectiveScanOptions&, \
      const SelectiveScanOutputGradients<T, K, Device>&,                                  \
      const SelectiveScanInputGradients<T, K, Device>&, SelectiveScanScratch<T, K, Device>&);
