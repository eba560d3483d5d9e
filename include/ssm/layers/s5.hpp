#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/detail/complex_views.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/feedthrough.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mimo_matrices.hpp"
#include "ssm/layers/s5_step.hpp"
#include "ssm/layers/s5_weights.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/scan/decay_gradient.hpp"
#include "ssm/scan/linear_scan.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What forward of an S5 layer leaves for backward, and scratch memory for both. It grows to the
/// largest call.
template <class T, class Space>
struct S5Scratch {
  /// @cond internal
  using Complex = std::complex<T>;
  /// Of a pass in one direction.
  struct Direction {
    TensorIn<Complex, 3, Space> x,
        dx;                          ///< (batch, length, state/2): the states, and their gradient
    TensorIn<T, 2, Space> C, dC;     ///< (width, state): [2 Re C, −2 Im C], interleaved
    TensorIn<Complex, 2, Space> da;  ///< (state/2, 1)
    LinearScanScratch<Complex, Space> scan;
  };

  detail::KeptCall<4> call;                            ///< batch, length, width, sequences
  bool stateful = false;                               ///< forward was given a state
  S5State<T, Space> before;                            ///< that state
  TensorIn<Complex, 2, Space> a_bar, factor, dfactor;  ///< (state/2, 1): ā, and B̄ = factor · B
  TensorIn<T, 3, Space> B_bar;                         ///< (state/2, 2, width)
  std::array<Direction, 2> directions;
  SampleModesScratch<T, Space> modes;
  InputMatrixScratch<T, Space> input_matrix;
  OutputMatrixScratch<T, Space> output_matrix;
  LinearScratch<T, Space> linear;
  DecayGradientScratch<T, Space> decay;
  FeedthroughScratch<T, Space> feedthrough;
  CopyRowsScratch<T, Space> copy;
  AddScratch<T, Space> add;
  /// @endcond
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T, class Space>
void check_s5_call(std::string_view function, const S5<T, Space>& layer,
                   const InputOf<S5<T, Space>>& input, const OutputOf<S5<T, Space>>& output,
                   const LayerOptions<Space>& options, std::string_view argument,
                   const Maybe<S5State<T, Space>>& state) {
  check_s5_config(function, layer.config);
  check_parameters(function, layer);
  check_layer_call(function, layer, input, output, options);
  check_no_overlap(function, "what is written", output, "input", input);
  check_rate(function, options.rate);
  check_direction_states(
      function, argument, layer.config, state,
      std::array<Index, 2>{options.sequences.count(input.extent(0)), layer.config.modes()});
}

/// (state/2, 2, width) as (state, width).
template <class T, class Space>
[[nodiscard]] View<T, 2, Space> as_matrix(const View<T, 3, Space>& rows) noexcept {
  return {rows.data(), {rows.extent(0) * rows.extent(1), rows.extent(2)}};
}

/// (state/2, 1) as (state/2).
template <class K, class Space>
[[nodiscard]] View<K, 1, Space> as_vector(const View<K, 2, Space>& column) noexcept {
  return {column.data(), {column.extent(0)}};
}

/// The scan of one direction over x, which holds B̄ u.
template <class T, class Space>
LinearScanInputs<std::complex<T>, Space> s5_scan_inputs(
    const S5Scratch<T, Space>& scratch, std::size_t direction,
    const std::type_identity_t<View<const std::complex<T>, 2, Space>>& initial,
    const Sequences<Space>& sequences) noexcept {
  const View<const std::complex<T>, 3, Space> x = scratch.directions[direction].x;
  return {{scratch.a_bar.data(), x.extents(), {0, 0, 1}}, x, initial, sequences};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an S5 layer over sequences; see S5 for the equations. It computes as a scan. As every input
/// reaches every state, a convolution would not be cheaper.
///
/// Cost of a step in each direction: 2 · width · state multiply-adds, and a linear scan of state/2
/// complex channels, which runs in parallel over time. The bits are the same for every number of
/// threads. Allocates while the scratch grows.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @param state optional: x (sequences, state/2) is read as the state before the first step and
///   overwritten with that after the last. Of a bidirectional layer x_back, of the same extents, is
///   read as the state of the pass from the end before it meets the last step, which is what the
///   steps after this piece leave in it, and overwritten with that after the first step. Absent,
///   both passes start from zero
/// @throws ShapeError; DomainError for a rate that is not above 0 and finite, or offsets that run
///   backward or past the end
template <class Backend, class T, class Space>
void forward(const Backend& backend, const S5<T, Space>& layer, const InputOf<S5<T, Space>>& input,
             Maybe<StateOf<S5<T, Space>>> state, const OutputOf<S5<T, Space>>& output,
             const OptionsOf<S5<T, Space>>& options, S5Scratch<T, Space>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "S5 forward";
  const S5Config& config = layer.config;
  detail::check_s5_call(function, layer, input, output, options, "state", state);
  const Index batch = input.extent(0), length = input.extent(1), modes = config.modes();
  const View<const T, 2, Space> u = detail::merge_rows(function, "input", input);
  const View<T, 2, Space> y = detail::merge_rows(function, "output", output);
  scratch.call.drop();
  scratch.stateful = bool(state);
  if (state && options.keep) detail::keep_states(backend, *state, scratch.before);
  resize(backend, scratch.a_bar, {modes, 1});
  resize(backend, scratch.factor, {modes, 1});
  resize(backend, scratch.B_bar, {modes, 2, config.width});
  sample_modes(backend, detail::s5_modes_of(layer), {options.rate, config.method, 0},
               {.a_bar = scratch.a_bar, .b_bar = scratch.factor}, scratch.modes);
  input_matrix(backend, {detail::as_vector(scratch.factor.view()), layer.B}, {}, {scratch.B_bar},
               scratch.input_matrix);
  auto& [first, second] = scratch.directions;
  resize(backend, first.x, {batch, length, modes});
  linear(backend, {u, detail::as_matrix(scratch.B_bar.view())}, {},
         {detail::as_real_rows(first.x.view())}, scratch.linear);
  if (config.bidirectional) {  // B̄ u of both
    resize(backend, second.x, {batch, length, modes});
    copy_rows(backend, {detail::as_real_rows(first.x.view())}, {},
              {detail::as_real_rows(second.x.view())}, scratch.copy);
  }
  const auto run = [&](std::size_t direction, const Sequences<Space>& sequences,
                       const TensorIn<T, 3, Space>& C, Write write) {
    auto& own = scratch.directions[direction];
    const View<Complex, 2, Space> x = detail::state_of(state, direction);
    linear_scan(backend, detail::s5_scan_inputs(scratch, direction, x, sequences), {}, {own.x, x},
                own.scan);
    resize(backend, own.C, {config.width, config.state});
    output_matrix(backend, {C}, {}, {own.C}, scratch.output_matrix);
    linear(backend, {detail::as_real_rows(own.x.view()), own.C}, {write}, {y}, scratch.linear);
  };
  run(0, options.sequences, layer.C, Write::overwrite);
  if (config.bidirectional) run(1, options.sequences.turned(), layer.C_back, Write::accumulate);
  feedthrough(backend, {u, layer.D}, {}, {y}, scratch.feedthrough);
  if (options.keep)
    scratch.call.keep({batch, length, config.width, options.sequences.count(batch)},
                      detail::variant_of(options.sequences));
}

/// The gradients of an S5 layer, of every weight and of the input, overwritten.
///
/// Cost: about twice forward.
/// @param dstate optional: read as the gradient with respect to the states that forward left,
///   overwritten with that of the states that it read; absent, the former is zero and the latter is
///   not computed
/// @param options, scratch those of the forward call
/// @throws ShapeError and DomainError as forward; ShapeError for the scratch of another call
template <class Backend, class T, class Space>
void backward(const Backend& backend, const S5<T, Space>& layer, const InputOf<S5<T, Space>>& input,
              Maybe<StateOf<S5<T, Space>>> dstate, const InputOf<S5<T, Space>>& doutput,
              const OutputOf<S5<T, Space>>& dinput, S5<T, Space>& gradients,
              const OptionsOf<S5<T, Space>>& options, S5Scratch<T, Space>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "S5 backward";
  const S5Config& config = layer.config;
  detail::check_s5_call(function, layer, input, dinput, options, "the gradient of state", dstate);
  const Index batch = input.extent(0), length = input.extent(1), modes = config.modes();
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_no_overlap(function, "the gradient of input", dinput, "the gradient of output",
                           doutput);
  scratch.call.check(function, "S5 forward with options.keep",
                     {batch, length, config.width, options.sequences.count(batch)},
                     detail::variant_of(options.sequences));
  const View<const T, 2, Space> u = detail::merge_rows(function, "input", input);
  const View<const T, 2, Space> dy =
      detail::merge_rows(function, "the gradient of output", doutput);
  const View<T, 2, Space> du = detail::merge_rows(function, "the gradient of input", dinput);
  resize_gradients(backend, layer, gradients);
  const auto before =
      scratch.stateful ? Maybe<S5State<T, Space>>(scratch.before) : Maybe<S5State<T, Space>>();

  // What one direction gives: ∂C, ∂B̄u in its dx, and ∂ā.
  const auto turn_back = [&](std::size_t direction, const Sequences<Space>& sequences,
                             const TensorIn<T, 3, Space>& C, TensorIn<T, 3, Space>& dC) {
    auto& own = scratch.directions[direction];
    const View<Complex, 2, Space> initial = detail::state_of(before, direction),
                                  slope = detail::state_of(dstate, direction);
    resize(backend, own.dx, {batch, length, modes});
    resize(backend, own.dC, {config.width, config.state});
    resize(backend, own.da, {modes, 1});
    linear_backward(backend, {detail::as_real_rows(own.x.view()), own.C}, {}, {dy},
                    {.x = detail::as_real_rows(own.dx.view()), .weight = own.dC}, scratch.linear);
    output_matrix_backward(backend, {C}, {}, {own.dC}, {dC}, scratch.output_matrix);
    linear_scan_backward(backend, detail::s5_scan_inputs(scratch, direction, initial, sequences),
                         {}, {own.dx, slope}, {{}, own.dx, slope}, own.scan);
    decay_gradient(backend, {own.dx, own.x, initial, sequences}, {},
                   {detail::as_vector(own.da.view())}, scratch.decay);
  };
  auto& [first, second] = scratch.directions;
  turn_back(0, options.sequences, layer.C, gradients.C);
  if (config.bidirectional) {
    turn_back(1, options.sequences.turned(), layer.C_back, gradients.C_back);
    detail::accumulate(backend, detail::as_real_rows(second.dx.view()),
                       detail::as_real_rows(first.dx.view()), scratch.add);
    detail::accumulate(backend, detail::as_real_rows(second.da.view()),
                       detail::as_real_rows(first.da.view()), scratch.add);
  }
  linear_backward(backend, {u, detail::as_matrix(scratch.B_bar.view())}, {},
                  {detail::as_real_rows(first.dx.view())},
                  {.x = du, .weight = detail::as_matrix(gradients.B.view())}, scratch.linear);
  resize(backend, scratch.dfactor, {modes, 1});
  input_matrix_backward(backend, {detail::as_vector(scratch.factor.view()), layer.B}, {},
                        {gradients.B}, {detail::as_vector(scratch.dfactor.view()), gradients.B},
                        scratch.input_matrix);
  const auto column = [&](TensorIn<T, 1, Space>& tensor) {
    return View<T, 2, Space>(tensor.data(), {modes, 1});
  };
  sample_modes_backward(
      backend, detail::s5_modes_of(layer), {options.rate, config.method, 0},
      {.a_bar = first.da, .b_bar = scratch.dfactor},
      {column(gradients.log_decay), column(gradients.frequency), gradients.log_delta},
      scratch.modes);
  feedthrough_backward(backend, {u, layer.D}, {}, {dy}, {du, gradients.D}, scratch.feedthrough);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(S5<float>)
SSM_INSTANCE_LAYER(S5<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
