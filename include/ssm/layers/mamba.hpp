#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/copy.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/causal_conv.hpp"
#include "ssm/layers/decay.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/scan/selective_scan.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class T, class Matrix>
class MambaStepper;

/// Sizes of a Mamba block.
struct MambaConfig {
  Index width = 0;        ///< of the sequences that it reads and writes
  Index inner = 0;        ///< channels of the scan; 0: 2 · width
  Index state = 16;       ///< states of each channel
  Index conv_width = 4;   ///< taps of the convolution
  Index dt_rank = 0;      ///< rank of the map from channels to step sizes; 0: ⌈width/16⌉
  bool bias = false;      ///< whether in_proj and out_proj have biases
  bool conv_bias = true;  ///< whether the convolution has a bias
  /// ε of the norms of dt, B and C, each divided by its root mean square before it is used, as in
  /// FalconMamba (Zuo et al. 2024); 0: no norms
  double projection_epsilon = 0;

  /// The number of channels of the scan.
  [[nodiscard]] constexpr Index channels() const noexcept { return inner > 0 ? inner : 2 * width; }
  /// The rank of the map from channels to step sizes.
  [[nodiscard]] constexpr Index rank() const noexcept {
    return dt_rank > 0 ? dt_rank : (width + 15) / 16;
  }
  /// The number of columns of [dt, B, C], to which the convolved input is projected.
  [[nodiscard]] constexpr Index projections() const noexcept { return rank() + 2 * state; }
  /// Whether dt, B and C go through norms.
  [[nodiscard]] constexpr bool normalizes() const noexcept { return projection_epsilon != 0; }
  friend bool operator==(const MambaConfig&, const MambaConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(MambaConfig& c, Visit&& visit) {
  visit("width", c.width);
  visit("inner", c.inner);
  visit("state", c.state);
  visit("conv_width", c.conv_width);
  visit("dt_rank", c.dt_rank);
  visit("bias", c.bias, Field::optional);
  visit("conv_bias", c.conv_bias, Field::optional);
  visit("projection_epsilon", c.projection_epsilon, Field::optional);
}

/// What a Mamba block carries from one step to the next: the last inputs of the convolution and
/// the state of the scan. It is a plain value, zero when made.
template <class T, class Space = Host>
struct MambaState {
  TensorIn<T, 3, Space> conv;  ///< (sequences, conv_width − 1, channels)
  TensorIn<T, 3, Space> scan;  ///< (sequences, channels, state)
};

/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Space, class Visit>
void tensors(MambaState<T, Space>& state, Visit&& visit) {
  visit("conv", state.conv);
  visit("scan", state.scan);
}

/// What a forward pass of Mamba leaves for backward, and room for both; rows = batch · length.
template <class T, class Space = Host>
struct MambaScratch {
  /// @cond internal
  TensorIn<T, 2, Space> projected;   ///< (rows, 2 · channels): [x, z]
  TensorIn<T, 2, Space> u;           ///< (rows, channels): silu(conv(x))
  TensorIn<T, 2, Space> parameters;  ///< (rows, dt_rank + 2 · state): [dt, B, C]
  TensorIn<T, 2, Space> normed;      ///< the same after their norms, where there are any
  TensorIn<T, 2, Space> delta;       ///< (rows, channels): before bias and softplus
  TensorIn<T, 2, Space> A;           ///< (channels, state)
  TensorIn<T, 2, Space> y;           ///< (rows, channels): gated output of the scan
  MambaState<T, Space> before;       ///< the state that forward started from
  bool stateful = false;             ///< whether there was one
  bool kept = false;                 ///< whether backward can follow

  TensorIn<T, 2, Space> dprojected, du, dparameters, ddelta, dy;  ///< gradients of the above
  LinearScratch<T, Space> linear;
  std::array<RmsNormScratch<T, Space>, 3> norms;  ///< of dt, B and C
  CausalConvScratch<T, Space> conv;
  SelectiveScanScratch<T, T, Space> scan;
  DecayScratch<T, Space> decay;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T, class Space>
void hand_over_room(MambaScratch<T, Space>& from, MambaScratch<T, Space>& to) {
  std::swap(from.dprojected, to.dprojected);
  std::swap(from.du, to.du);
  std::swap(from.dparameters, to.dparameters);
  std::swap(from.ddelta, to.ddelta);
  std::swap(from.dy, to.dy);
  std::swap(from.linear, to.linear);
  detail::hand_over(from.conv, to.conv);
  detail::hand_over(from.scan, to.scan);
}

/// The Mamba block (Gu & Dao 2023, section 3.4 and figure 3). It holds its weights, or the gradient
/// of a loss with respect to them.
///
///   [x, z] = in_proj · input,  u = silu(conv(x)),  [dt, B, C] = x_proj · u,
///   delta = dt_proj · dt,  y = scan(u, softplus(delta + dt_bias), −exp(A_log), B, C, D) · silu(z),
///   output = out_proj · y.
///
/// Where the configuration has a projection_epsilon, dt, B and C are each divided by the root of
/// their mean square first. in_proj and out_proj may have biases, the convolution may have none.
///
/// `Matrix` is the type of the projections, such as Tensor<T, 2>.
template <class T, class Matrix = Tensor<T, 2>>
struct Mamba {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = typename Matrix::space;
  using Config = MambaConfig;
  using State = MambaState<T, space>;
  using Scratch = MambaScratch<T, space>;
  using Stepper = MambaStepper<T, Matrix>;
  using Matrices = Matrix;
  ///@}

  Config config;                      ///< sizes and fixed choices
  Matrix in_proj;                     ///< (2 · channels, width): rows [x, z]
  TensorIn<T, 1, space> in_bias;      ///< (2 · channels), where config.bias
  TensorIn<T, 2, space> conv_weight;  ///< (channels, conv_width)
  TensorIn<T, 1, space> conv_bias;    ///< (channels), where config.conv_bias
  Matrix x_proj;                      ///< (dt_rank + 2 · state, channels): rows [dt, B, C]
  Matrix dt_proj;                     ///< (channels, dt_rank)
  TensorIn<T, 1, space> dt_bias;      ///< (channels)
  TensorIn<T, 2, space> A_log;        ///< (channels, state): A = −exp(A_log)
  TensorIn<T, 1, space> D;            ///< (channels)
  Matrix out_proj;                    ///< (width, channels)
  TensorIn<T, 1, space> out_bias;     ///< (width), where config.bias

  Mamba() = default;
  /// A layer of this configuration, its parameters zero. @throws ShapeError for sizes that are
  /// negative or cannot be addressed
  explicit Mamba(const Config& c) : config(c) { resize_parameters(*this); }
};

/// The parameters of a Mamba block, under the names of state-spaces/mamba; biases that the
/// configuration leaves out are not among them. Weight decay applies to matrices other than A_log.
template <class T, class Matrix, class Visit>
void parameters(Mamba<T, Matrix>& layer, Visit&& visit) {
  const MambaConfig& c = layer.config;
  visit("in_proj.weight", layer.in_proj, shape(2 * c.channels(), c.width), true);
  if (c.bias) visit("in_proj.bias", layer.in_bias, shape(2 * c.channels()), false);
  visit("conv1d.weight", layer.conv_weight, shape(c.channels(), c.conv_width), true);
  if (c.conv_bias) visit("conv1d.bias", layer.conv_bias, shape(c.channels()), false);
  visit("x_proj.weight", layer.x_proj, shape(c.projections(), c.channels()), true);
  visit("dt_proj.weight", layer.dt_proj, shape(c.channels(), c.rank()), true);
  visit("dt_proj.bias", layer.dt_bias, shape(c.channels()), false);
  visit("A_log", layer.A_log, shape(c.channels(), c.state), false);
  visit("D", layer.D, shape(c.channels()), false);
  visit("out_proj.weight", layer.out_proj, shape(c.width, c.channels()), true);
  if (c.bias) visit("out_proj.bias", layer.out_bias, shape(c.width), false);
}

/// The state of so many sequences before their first step, all zero.
template <class T, class Matrix>
[[nodiscard]] MambaState<T> make_state(const Mamba<T, Matrix>& layer, Index sequences) {
  const MambaConfig& c = layer.config;
  return {Tensor<T, 3>({sequences, c.conv_width - 1, c.channels()}),
          Tensor<T, 3>({sequences, c.channels(), c.state})};
}

/// Draws the weights as the reference implementation does (Gu & Dao 2023, section 3.6; the
/// published code): A = −(1 … state), D = 1, step sizes log-uniform in [1e-3, 1e-1], dt_proj
/// uniform in ±1/√dt_rank, the other maps uniform in ±1/√(number of their inputs), out_proj divided
/// by √depth, and biases of in_proj and out_proj 0. The same seed gives the same weights on every
/// machine.
/// @param depth how many such blocks the model has
template <class T>
void initialize(Mamba<T>& layer, std::uint64_t seed, Index depth = 1) {
  detail::InitialDraws draws(seed);
  const MambaConfig& c = layer.config;
  const auto inverse_root = [](Index n) {
    return 1 / std::sqrt(static_cast<double>((std::max<Index>)(n, 1)));
  };
  draws.uniform(layer.in_proj, inverse_root(c.width));
  draws.uniform(layer.conv_weight, inverse_root(c.conv_width));
  if (c.conv_bias) draws.uniform(layer.conv_bias, inverse_root(c.conv_width));
  draws.uniform(layer.x_proj, inverse_root(c.channels()));
  draws.uniform(layer.dt_proj, inverse_root(c.rank()));
  for (T& x : layer.dt_bias) {
    const double step = std::exp(draws.uniform(std::log(1e-3), std::log(1e-1)));
    x = static_cast<T>(inverse_softplus((std::max)(step, 1e-4)));
  }
  for (Index i = 0; i < c.channels(); ++i)
    for (Index n = 0; n < c.state; ++n)
      layer.A_log(i, n) = static_cast<T>(std::log(static_cast<double>(n + 1)));
  layer.D.fill(T(1));
  draws.uniform(layer.out_proj, inverse_root(c.channels()) * inverse_root(depth));
  layer.in_bias.fill(T(0));
  layer.out_bias.fill(T(0));
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// A parameter that the configuration may leave out, as operations see it.
template <class AnyTensor>
[[nodiscard]] auto optional_view(bool there, AnyTensor& tensor) {
  return there ? tensor.view() : decltype(tensor.view()){};
}

/// The arrays of a block as its operations see them: columns of (batch · length, …) matrices.
template <class T, class Space>
struct MambaArrays {
  const MambaConfig& c;
  Index batch, length;

  /// The rows of an array of so many columns, as sequences.
  template <class U>
  [[nodiscard]] View<U, 3, Space> sequences(U* data, Index columns) const {
    return {data, {batch, length, columns}};
  }
  template <class U>
  [[nodiscard]] View<U, 3, Space> x(U* projected) const {
    return sequences(projected, 2 * c.channels()).split(2, {c.channels(), c.channels()})[0];
  }
  template <class U>
  [[nodiscard]] View<U, 3, Space> z(U* projected) const {
    return sequences(projected, 2 * c.channels()).split(2, {c.channels(), c.channels()})[1];
  }
  template <class U>
  [[nodiscard]] View<U, 3, Space> channels(U* data) const {
    return sequences(data, c.channels());
  }
  /// dt, B and C.
  template <class U>
  [[nodiscard]] std::array<View<U, 2, Space>, 3> parts(U* parameters) const {
    return View<U, 2, Space>(parameters, {batch * length, c.projections()})
        .split(1, {c.rank(), c.state, c.state});
  }
  template <class U>
  [[nodiscard]] View<U, 2, Space> dt(U* parameters) const {
    return parts(parameters)[0];
  }
  /// [dt, B, C] as dt_proj and the scan read them.
  [[nodiscard]] const T* parameters(const MambaScratch<T, Space>& scratch) const {
    return c.normalizes() ? scratch.normed.data() : scratch.parameters.data();
  }
  /// B (part 1) or C (part 2), one group.
  template <class U>
  [[nodiscard]] View<U, 4, Space> coefficient(U* parameters, std::size_t part) const {
    const auto rows =
        sequences(parameters, c.projections()).split(2, {c.rank(), c.state, c.state})[part];
    return {rows.data(), {batch, length, 1, c.state}, {rows.stride(0), rows.stride(1), c.state, 1}};
  }

  template <class Layer>
  [[nodiscard]] CausalConvInputs<T, Space> conv_inputs(const Layer& layer,
                                                       const MambaScratch<T, Space>& scratch,
                                                       Maybe<MambaState<T, Space>> before,
                                                       const Sequences<Space>& sequences) const {
    CausalConvInputs<T, Space> in;
    in.x = x(scratch.projected.data());
    in.weight = layer.conv_weight;
    in.bias = optional_view(c.conv_bias, layer.conv_bias);
    if (before) in.initial_state = before->conv;
    in.sequences = sequences;
    return in;
  }
  template <class Layer>
  [[nodiscard]] SelectiveScanInputs<T, T, Space> scan_inputs(
      const Layer& layer, const MambaScratch<T, Space>& scratch, Maybe<MambaState<T, Space>> before,
      const Sequences<Space>& sequences) const {
    SelectiveScanInputs<T, T, Space> in;
    in.u = channels(scratch.u.data());
    in.delta = channels(scratch.delta.data());
    in.A = scratch.A;
    in.B = coefficient(parameters(scratch), 1);
    in.C = coefficient(parameters(scratch), 2);
    in.D = layer.D;
    in.delta_bias = layer.dt_bias;
    in.z = z(scratch.projected.data());
    if (before) in.initial_state = before->scan;
    in.sequences = sequences;
    return in;
  }
};

template <class T, class Space>
void check_mamba_state(std::string_view function, const MambaConfig& c, Index sequences,
                       std::string_view argument, Maybe<MambaState<T, Space>> state) {
  if (!state) return;
  check_shape(function, argument, state->conv,
              std::array<Index, 3>{sequences, c.conv_width - 1, c.channels()});
  check_shape(function, argument, state->scan,
              std::array<Index, 3>{sequences, c.channels(), c.state});
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs a Mamba block over sequences of any length, from any state. A sequence may be split
/// anywhere: passing the state from one part to the next gives the same output.
///
/// Cost of a step: channels · (3 width + 2 dt_rank + 2 state) multiply-adds in the projections, and
/// channels · state exponentials. The scratch grows with the length, so where no gradient is wanted
/// a long prompt is best cut into pieces.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws ShapeError, and DomainError for offsets that do not fit or a rate other than 1
template <class Backend, class T, class Matrix>
void forward(const Backend& backend, const Mamba<T, Matrix>& layer,
             const InputOf<Mamba<T, Matrix>>& input, Maybe<StateOf<Mamba<T, Matrix>>> state,
             const OutputOf<Mamba<T, Matrix>>& output, const OptionsOf<Mamba<T, Matrix>>& options,
             ScratchOf<Mamba<T, Matrix>>& scratch) {
  using Space = typename Mamba<T, Matrix>::space;
  constexpr std::string_view function = "forward of Mamba";
  const MambaConfig& c = layer.config;
  detail::check_layer_call(function, layer, input, output, options);
  detail::check_parameters(function, layer);
  detail::check_no_rate(function, options);
  const detail::MambaArrays<T, Space> arrays{c, input.extent(0), input.extent(1)};
  detail::check_mamba_state(function, c, options.sequences.count(arrays.batch), "state", state);
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  const Index rows = x.extent(0);
  MambaScratch<T, Space>& w = scratch;
  w.kept = options.keep;
  w.stateful = static_cast<bool>(state);
  resize(backend, w.projected, {rows, 2 * c.channels()});
  resize(backend, w.u, {rows, c.channels()});
  resize(backend, w.parameters, {rows, c.projections()});
  resize(backend, w.delta, {rows, c.channels()});
  resize(backend, w.A, {c.channels(), c.state});
  resize(backend, w.y, {rows, c.channels()});
  Maybe<MambaState<T, Space>> before = state;
  if (state && options.keep) {
    resize(backend, w.before.conv, state->conv.extents());
    resize(backend, w.before.scan, state->scan.extents());
    copy(backend, state->conv.view(), w.before.conv.view());
    copy(backend, state->scan.view(), w.before.scan.view());
    before = w.before;
  }

  linear(backend,
         detail::product<T, Space>(x, layer.in_proj, detail::optional_view(c.bias, layer.in_bias)),
         {}, {w.projected}, w.linear);
  causal_conv(backend, arrays.conv_inputs(layer, w, before, options.sequences), {.silu = true},
              {arrays.channels(w.u.data()), state ? state->conv.view() : View<T, 3, Space>()},
              w.conv);
  linear(backend, detail::product<T, Space>(w.u, layer.x_proj), {}, {w.parameters}, w.linear);
  if (c.normalizes()) {
    resize(backend, w.normed, w.parameters.extents());
    const auto from = arrays.parts(std::as_const(w.parameters).data());
    const auto to = arrays.parts(w.normed.data());
    for (std::size_t i = 0; i < w.norms.size(); ++i)
      rms_norm(backend, {from[i]}, {.epsilon = c.projection_epsilon}, {to[i]}, w.norms[i]);
  }
  linear(backend, detail::product<T, Space>(arrays.dt(arrays.parameters(w)), layer.dt_proj), {},
         {w.delta}, w.linear);
  decay(backend, {layer.A_log}, {}, {w.A}, w.decay);
  selective_scan(backend, arrays.scan_inputs(layer, w, before, options.sequences),
                 {.softplus = true, .hold = Hold::simplified, .keep = options.keep},
                 {arrays.channels(w.y.data()), state ? state->scan.view() : View<T, 3, Space>()},
                 w.scan);
  linear(
      backend,
      detail::product<T, Space>(w.y, layer.out_proj, detail::optional_view(c.bias, layer.out_bias)),
      {}, {y}, w.linear);
}

/// The gradients of a Mamba block, of every weight and of the input, overwritten. Cost: about twice
/// the forward pass.
/// @throws ShapeError and DomainError as forward; ShapeError for a scratch that forward did not
///   fill with these arguments
template <class Backend, class T, class Matrix>
void backward(const Backend& backend, const Mamba<T, Matrix>& layer,
              const InputOf<Mamba<T, Matrix>>& input, Maybe<StateOf<Mamba<T, Matrix>>> dstate,
              const InputOf<Mamba<T, Matrix>>& doutput, const OutputOf<Mamba<T, Matrix>>& dinput,
              std::type_identity_t<Mamba<T, Matrix>>& gradients,
              const OptionsOf<Mamba<T, Matrix>>& options, ScratchOf<Mamba<T, Matrix>>& scratch) {
  using Space = typename Mamba<T, Matrix>::space;
  constexpr std::string_view function = "backward of Mamba";
  const MambaConfig& c = layer.config;
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_parameters(function, layer);
  detail::check_shape(function, "doutput", doutput, input.extents());
  const detail::MambaArrays<T, Space> arrays{c, input.extent(0), input.extent(1)};
  const Index sequences = options.sequences.count(arrays.batch);
  detail::check_mamba_state(function, c, sequences, "dstate", dstate);
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "doutput", doutput);
  const auto dx = detail::merge_rows(function, "dinput", dinput);
  const Index rows = x.extent(0);
  MambaScratch<T, Space>& w = scratch;
  if (!w.kept)
    detail::throw_shape(function, "scratch", "of no call that kept anything",
                        "one that forward with options.keep filled");
  detail::check_shape(function, "scratch", w.y, shape(rows, c.channels()));
  Maybe<MambaState<T, Space>> before;
  if (w.stateful) before = w.before;
  resize_gradients(backend, layer, gradients);
  resize(backend, w.dprojected, {rows, 2 * c.channels()});
  resize(backend, w.du, {rows, c.channels()});
  resize(backend, w.dparameters, {rows, c.projections()});
  resize(backend, w.ddelta, {rows, c.channels()});
  resize(backend, w.dy, {rows, c.channels()});

  linear_backward(backend, detail::product<T, Space>(w.y, layer.out_proj), {}, {dy},
                  {w.dy, gradients.out_proj, detail::optional_view(c.bias, gradients.out_bias)},
                  w.linear);
  SelectiveScanOutputGradients<T, T, Space> scan_outputs;
  scan_outputs.y = arrays.channels(std::as_const(w.dy).data());
  SelectiveScanInputGradients<T, T, Space> scan_inputs;
  scan_inputs.u = arrays.channels(w.du.data());
  scan_inputs.delta = arrays.channels(w.ddelta.data());
  scan_inputs.A = gradients.A_log;
  scan_inputs.B = arrays.coefficient(w.dparameters.data(), 1);
  scan_inputs.C = arrays.coefficient(w.dparameters.data(), 2);
  scan_inputs.D = gradients.D;
  scan_inputs.delta_bias = gradients.dt_bias;
  scan_inputs.z = arrays.z(w.dprojected.data());
  if (dstate) {
    scan_outputs.final_state = dstate->scan;
    scan_inputs.initial_state = dstate->scan;
  }
  selective_scan_backward(backend, arrays.scan_inputs(layer, w, before, options.sequences),
                          {.softplus = true, .hold = Hold::simplified}, scan_outputs, scan_inputs,
                          w.scan);
  decay_backward(backend, {layer.A_log}, {}, {gradients.A_log}, {gradients.A_log}, w.decay);

  linear_backward(backend,
                  detail::product<T, Space>(arrays.dt(arrays.parameters(w)), layer.dt_proj), {},
                  {w.ddelta}, {arrays.dt(w.dparameters.data()), gradients.dt_proj, {}}, w.linear);
  if (c.normalizes()) {
    const auto from = arrays.parts(std::as_const(w.parameters).data());
    const auto to = arrays.parts(w.dparameters.data());
    for (std::size_t i = 0; i < w.norms.size(); ++i)
      rms_norm_backward(backend, {from[i]}, {.epsilon = c.projection_epsilon}, {to[i]}, {to[i]},
                        w.norms[i]);
  }
  linear_backward(backend, detail::product<T, Space>(w.u, layer.x_proj),
                  {.write = Write::accumulate}, {w.dparameters}, {w.du, gradients.x_proj, {}},
                  w.linear);
  CausalConvOutputGradients<T, Space> conv_outputs;
  conv_outputs.y = arrays.channels(std::as_const(w.du).data());
  CausalConvInputGradients<T, Space> conv_inputs;
  conv_inputs.x = arrays.x(w.dprojected.data());
  conv_inputs.weight = gradients.conv_weight;
  conv_inputs.bias = detail::optional_view(c.conv_bias, gradients.conv_bias);
  if (dstate) {
    conv_outputs.final_state = dstate->conv;
    conv_inputs.initial_state = dstate->conv;
  }
  causal_conv_backward(backend, arrays.conv_inputs(layer, w, before, options.sequences),
                       {.silu = true}, conv_outputs, conv_inputs, w.conv);
  linear_backward(backend, detail::product<T, Space>(x, layer.in_proj), {}, {w.dprojected},
                  {dx, gradients.in_proj, detail::optional_view(c.bias, gradients.in_bias)},
                  w.linear);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(Mamba<float>)
SSM_INSTANCE Mamba<float>::Mamba(const MambaConfig&);
SSM_INSTANCE void initialize(Mamba<float>&, std::uint64_t, Index);
SSM_INSTANCE_LAYER(Mamba<double>)
SSM_INSTANCE Mamba<double>::Mamba(const MambaConfig&);
SSM_INSTANCE void initialize(Mamba<double>&, std::uint64_t, Index);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
