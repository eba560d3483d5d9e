#pragma once

#include "ssm/layers/causal_conv.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/scan/selective_scan.hpp"

namespace ssm {

/// Sizes of a Mamba block.
struct MambaShape {
  Index width = 0;       ///< of the residual stream
  Index inner = 0;       ///< channels of the scan
  Index state = 16;      ///< states of each channel
  Index conv_width = 4;  ///< taps of the convolution
  Index dt_rank = 0;     ///< rank of the map from channels to step sizes

  friend bool operator==(const MambaShape&, const MambaShape&) = default;
};

/// Weights of a Mamba block, or their gradient.
template <class T>
struct MambaWeights {
  Tensor<T, 2> in_proj;      ///< (2 · inner, width): rows [x, z]
  Tensor<T, 2> conv_weight;  ///< (inner, conv_width)
  Tensor<T, 1> conv_bias;    ///< (inner)
  Tensor<T, 2> x_proj;       ///< (dt_rank + 2 · state, inner): rows [dt, B, C]
  Tensor<T, 2> dt_proj;      ///< (inner, dt_rank)
  Tensor<T, 1> dt_bias;      ///< (inner)
  Tensor<T, 2> A_log;        ///< (inner, state): A = −exp(A_log)
  Tensor<T, 1> D;            ///< (inner)
  Tensor<T, 2> out_proj;     ///< (width, inner)

  MambaWeights() = default;
  explicit MambaWeights(const MambaShape& s)
      : in_proj({2 * s.inner, s.width}),
        conv_weight({s.inner, s.conv_width}),
        conv_bias({s.inner}),
        x_proj({s.dt_rank + 2 * s.state, s.inner}),
        dt_proj({s.inner, s.dt_rank}),
        dt_bias({s.inner}),
        A_log({s.inner, s.state}),
        D({s.inner}),
        out_proj({s.width, s.inner}) {}

  [[nodiscard]] MambaShape shape() const noexcept {
    return {out_proj.extent(0), A_log.extent(0), A_log.extent(1), conv_weight.extent(1),
            dt_proj.extent(1)};
  }
};

/// What a Mamba block carries from one step to the next: the last inputs of the convolution and
/// the state of the scan. A plain value; zero when made.
template <class T>
struct MambaState {
  Tensor<T, 3> conv;  ///< (sequences, conv_width − 1, inner)
  Tensor<T, 3> scan;  ///< (sequences, inner, state)

  MambaState() = default;
  MambaState(const MambaShape& s, Index sequences)
      : conv({sequences, s.conv_width - 1, s.inner}), scan({sequences, s.inner, s.state}) {}
};

struct MambaOptions {
  View<const Index, 1> offsets;      ///< (sequences + 1), optional: packed sequences, batch 1
  bool reversed = false;             ///< time runs from the last step to the first
  Write write_y = Write::overwrite;  ///< accumulate: y += block(x), as a residual stream wants it
};

/// What forward leaves for backward, with rows = batch · length.
template <class T>
struct MambaSaved {
  Tensor<T, 2> projected;   ///< (rows, 2 · inner): [x, z]
  Tensor<T, 2> u;           ///< (rows, inner): silu(conv(x))
  Tensor<T, 2> parameters;  ///< (rows, dt_rank + 2 · state): [dt, B, C]
  Tensor<T, 2> delta;       ///< (rows, inner): before bias and softplus
  Tensor<T, 2> A;           ///< (inner, state)
  Tensor<T, 2> y;           ///< (rows, inner): gated output of the scan
  SelectiveScanSaved<T> scan;

  /// Makes room for this many rows. Never allocates for no more rows than before.
  void resize(const MambaShape& s, Index rows) {
    projected.resize({rows, 2 * s.inner});
    u.resize({rows, s.inner});
    parameters.resize({rows, s.dt_rank + 2 * s.state});
    delta.resize({rows, s.inner});
    A.resize({s.inner, s.state});
    y.resize({rows, s.inner});
  }
};

/// Scratch of a Mamba block, grown to its largest call.
template <class T>
struct MambaWorkspace {
  Tensor<T, 2> projected;  ///< gradients of what MambaSaved names alike
  Tensor<T, 2> u;
  Tensor<T, 2> parameters;
  Tensor<T, 2> delta;
  Tensor<T, 2> y;
  CausalConvWorkspace<T> conv;
  LinearWorkspace<T> linear;
  SelectiveScanWorkspace<T> scan;
};

namespace detail {

template <class T>
MambaShape check_mamba(const char* function, const MambaWeights<T>& w) {
  const MambaShape s = w.shape();
  check_shape(function, "in_proj", w.in_proj, std::array<Index, 2>{2 * s.inner, s.width});
  check_shape(function, "conv_weight", w.conv_weight, std::array<Index, 2>{s.inner, s.conv_width});
  check_shape(function, "conv_bias", w.conv_bias, std::array<Index, 1>{s.inner});
  check_shape(function, "x_proj", w.x_proj, std::array<Index, 2>{s.dt_rank + 2 * s.state, s.inner});
  check_shape(function, "dt_proj", w.dt_proj, std::array<Index, 2>{s.inner, s.dt_rank});
  check_shape(function, "dt_bias", w.dt_bias, std::array<Index, 1>{s.inner});
  check_shape(function, "D", w.D, std::array<Index, 1>{s.inner});
  check_shape(function, "out_proj", w.out_proj, std::array<Index, 2>{s.width, s.inner});
  return s;
}

/// The arrays of a block as the convolution and the scan see them.
template <class T>
struct MambaViews {
  const MambaShape& s;
  Index batch, length;

  /// An array without rows may be null, and stays so.
  template <class U>
  [[nodiscard]] U* offset(U* data, Index by) const noexcept {
    return batch * length > 0 ? data + by : data;
  }
  /// Columns [begin, begin + count) of a (batch · length, columns) array.
  template <class U>
  [[nodiscard]] View<U, 3> columns(U* data, Index all, Index begin, Index count) const noexcept {
    return {offset(data, begin), {batch, length, count}, {length * all, all, 1}};
  }
  template <class U>
  [[nodiscard]] View<U, 3> x(U* projected) const noexcept {
    return columns(projected, 2 * s.inner, 0, s.inner);
  }
  template <class U>
  [[nodiscard]] View<U, 3> z(U* projected) const noexcept {
    return columns(projected, 2 * s.inner, s.inner, s.inner);
  }
  template <class U>
  [[nodiscard]] View<U, 3> channels(U* data) const noexcept {
    return {data, {batch, length, s.inner}};
  }
  template <class U>
  [[nodiscard]] View<U, 2> dt(U* parameters) const noexcept {
    return {parameters, {batch * length, s.dt_rank}, {s.dt_rank + 2 * s.state, 1}};
  }
  /// B (part 0) or C (part 1), one group.
  template <class U>
  [[nodiscard]] View<U, 4> coefficient(U* parameters, Index part) const noexcept {
    const Index all = s.dt_rank + 2 * s.state;
    return {offset(parameters, s.dt_rank + part * s.state),
            {batch, length, 1, s.state},
            {length * all, all, s.state, 1}};
  }

  [[nodiscard]] CausalConvInputs<T> conv_inputs(const MambaWeights<T>& w,
                                                const MambaSaved<T>& saved,
                                                const MambaState<T>* initial,
                                                const MambaOptions& options) const {
    return {.x = x(saved.projected.data()),
            .weight = w.conv_weight,
            .bias = w.conv_bias,
            .initial_state = initial ? initial->conv.view() : View<const T, 3>(),
            .offsets = options.offsets};
  }

  [[nodiscard]] SelectiveScanInputs<T> scan_inputs(const MambaWeights<T>& w,
                                                   const MambaSaved<T>& saved,
                                                   const MambaState<T>* initial,
                                                   const MambaOptions& options) const {
    SelectiveScanInputs<T> in;
    in.u = channels(saved.u.data());
    in.delta = channels(saved.delta.data());
    in.A = saved.A;
    in.B = coefficient(saved.parameters.data(), 0);
    in.C = coefficient(saved.parameters.data(), 1);
    in.D = w.D;
    in.delta_bias = w.dt_bias;
    in.z = z(saved.projected.data());
    if (initial) in.initial_state = initial->scan;
    in.offsets = options.offsets;
    return in;
  }
};

}  // namespace detail

/// The Mamba block (Gu & Dao 2023, section 3.4 and figure 3), on any number of steps from any
/// state:
///   [x, z] = in_proj · input,  u = silu(conv(x)),  [dt, B, C] = x_proj · u,
///   delta = dt_proj · dt,  y = scan(u, softplus(delta + dt_bias), −exp(A_log), B, C, D) · silu(z),
///   output = out_proj · y.
///
/// input, output (batch, length, width), rows evenly spaced. `initial` null: a state of zeros;
/// `final` null: not wanted; the two must differ. Splitting a sequence and handing the state on
/// gives the same output. Cost per step: inner · (3 width + 2 dt_rank + 2 state) multiply-adds in
/// the projections, and inner · state exponentials. Memory: MambaSaved, so a long prompt is best
/// cut into chunks where no gradient is wanted. Throws ShapeError, DomainError.
template <class T>
void mamba_forward(const Cpu& backend, const MambaWeights<T>& weights,
                   const View<const T, 3>& input, const MambaState<T>* initial,
                   const View<T, 3>& output, MambaState<T>* final, const MambaOptions& options,
                   MambaSaved<T>& saved, MambaWorkspace<T>& workspace) {
  const char* function = "mamba_forward";
  const MambaShape s = detail::check_mamba(function, weights);
  const detail::MambaViews<T> views{s, input.extent(0), input.extent(1)};
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : views.batch;
  detail::check_shape<View<const T, 3>, 3>(function, "input", input,
                                           {views.batch, views.length, s.width});
  detail::check_shape<View<T, 3>, 3>(function, "output", output,
                                     {views.batch, views.length, s.width});
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  saved.resize(s, x.extent(0));
  if (final) {
    final->conv.resize({sequences, s.conv_width - 1, s.inner});
    final->scan.resize({sequences, s.inner, s.state});
  }

  linear_forward<T>(backend, x, weights.in_proj, {}, saved.projected);
  causal_conv_forward<T>(backend, views.conv_inputs(weights, saved, initial, options),
                         {.silu = true, .reversed = options.reversed},
                         {.y = views.channels(saved.u.data()),
                          .final_state = final ? final->conv.view() : View<T, 3>()},
                         workspace.conv);
  linear_forward<T>(backend, saved.u, weights.x_proj, {}, saved.parameters);
  linear_forward<T>(backend, views.dt(std::as_const(saved.parameters).data()), weights.dt_proj, {},
                    saved.delta);
  detail::array(saved.A.data(), saved.A.size()) =
      -detail::array(weights.A_log.data(), weights.A_log.size()).exp();
  selective_scan<T>(backend, views.scan_inputs(weights, saved, initial, options),
                    {.softplus = true, .hold = Hold::simplified, .reversed = options.reversed},
                    {.y = views.channels(saved.y.data()),
                     .final_state = final ? final->scan.view() : View<T, 3>()},
                    workspace.scan, &saved.scan);
  linear_forward<T>(backend, saved.y, weights.out_proj, {}, y, options.write_y);
}

/// Gradients of mamba_forward: of every weight and the input, overwritten, and of the initial state
/// unless `dinitial` is null. `dfinal` is the gradient of the final state, null: zero. The other
/// arguments are those of the forward call. Cost about twice the forward pass in projections.
template <class T>
void mamba_backward(const Cpu& backend, const MambaWeights<T>& weights,
                    const View<const T, 3>& input, const MambaState<T>* initial,
                    const MambaOptions& options, const MambaSaved<T>& saved,
                    const View<const T, 3>& doutput, const MambaState<T>* dfinal,
                    MambaWeights<T>& gradients, const View<T, 3>& dinput, MambaState<T>* dinitial,
                    MambaWorkspace<T>& workspace) {
  const char* function = "mamba_backward";
  const MambaShape s = detail::check_mamba(function, weights);
  const detail::MambaViews<T> views{s, input.extent(0), input.extent(1)};
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : views.batch;
  const std::array<Index, 3> extents{views.batch, views.length, s.width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "the gradient of output", doutput, extents);
  detail::check_shape(function, "the gradient of input", dinput, extents);
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "the gradient of output", doutput);
  const auto dx = detail::merge_rows(function, "the gradient of input", dinput);
  const Index rows = x.extent(0);
  if (gradients.shape() != s) gradients = MambaWeights<T>(s);
  if (dinitial) *dinitial = MambaState<T>(s, sequences);
  MambaWorkspace<T>& d = workspace;
  d.projected.resize({rows, 2 * s.inner});
  d.u.resize({rows, s.inner});
  d.parameters.resize({rows, s.dt_rank + 2 * s.state});
  d.delta.resize({rows, s.inner});
  d.y.resize({rows, s.inner});

  linear_backward<T>(backend, saved.y, weights.out_proj, dy,
                     {.x = d.y, .weight = gradients.out_proj, .bias = {}}, d.linear);
  SelectiveScanOutputGradients<T> scan_outputs;
  scan_outputs.y = views.channels(std::as_const(d.y).data());
  if (dfinal) scan_outputs.final_state = dfinal->scan;
  SelectiveScanInputGradients<T> scan_gradients;
  scan_gradients.u = views.channels(d.u.data());
  scan_gradients.delta = views.channels(d.delta.data());
  scan_gradients.A = gradients.A_log;
  scan_gradients.B = views.coefficient(d.parameters.data(), 0);
  scan_gradients.C = views.coefficient(d.parameters.data(), 1);
  scan_gradients.D = gradients.D;
  scan_gradients.delta_bias = gradients.dt_bias;
  scan_gradients.z = views.z(d.projected.data());
  if (dinitial) scan_gradients.initial_state = dinitial->scan;
  selective_scan_backward<T>(
      backend, views.scan_inputs(weights, saved, initial, options),
      {.softplus = true, .hold = Hold::simplified, .reversed = options.reversed}, saved.scan,
      scan_outputs, scan_gradients, d.scan);
  // A = −exp(A_log) is its own derivative.
  detail::array(gradients.A_log.data(), saved.A.size()) *=
      detail::array(saved.A.data(), saved.A.size());

  linear_backward<T>(backend, views.dt(saved.parameters.data()), weights.dt_proj, d.delta,
                     {.x = views.dt(d.parameters.data()), .weight = gradients.dt_proj, .bias = {}},
                     d.linear);
  linear_backward<T>(backend, saved.u, weights.x_proj, d.parameters,
                     {.x = d.u, .weight = gradients.x_proj, .bias = {}}, d.linear,
                     Write::accumulate);
  CausalConvOutputGradients<T> conv_outputs{.y = views.channels(std::as_const(d.u).data()),
                                            .final_state = {}};
  if (dfinal) conv_outputs.final_state = dfinal->conv;
  causal_conv_backward<T>(backend, views.conv_inputs(weights, saved, initial, options),
                          {.silu = true, .reversed = options.reversed}, conv_outputs,
                          {.x = views.x(d.projected.data()),
                           .weight = gradients.conv_weight,
                           .bias = gradients.conv_bias,
                           .initial_state = dinitial ? dinitial->conv.view() : View<T, 3>()},
                          d.conv);
  linear_backward<T>(backend, x, weights.in_proj, d.projected,
                     {.x = dx, .weight = gradients.in_proj, .bias = {}}, d.linear);
}

/// One step of the block on the calling thread, `state` moved on in place.
/// input, output (batch, width). Nothing is allocated once `scratch` has served such a batch or
/// been resized for it. A shape that does not fit ends the program with a ShapeError.
template <class T>
void mamba_step(const MambaWeights<T>& weights, const View<const T, 2>& input, MambaState<T>& state,
                const View<T, 2>& output, MambaSaved<T>& scratch) noexcept {
  const MambaShape s = weights.shape();
  const Index batch = input.extent(0);
  detail::check_or_terminate([&] {
    const char* function = "mamba_step";
    const std::array<Index, 2> extents{batch, s.width};
    detail::check_mamba(function, weights);
    detail::check_shape(function, "input", input, extents);
    detail::check_shape(function, "output", output, extents);
    detail::check_shape(function, "state.conv", state.conv,
                        std::array<Index, 3>{batch, s.conv_width - 1, s.inner});
    detail::check_shape(function, "state.scan", state.scan,
                        std::array<Index, 3>{batch, s.inner, s.state});
    scratch.resize(s, batch);
  });
  const detail::MambaViews<T> views{s, batch, 1};
  const View<T, 2> x(scratch.projected.data(), {batch, s.inner}, {2 * s.inner, 1});
  const View<T, 2> z(views.offset(scratch.projected.data(), s.inner), {batch, s.inner},
                     {2 * s.inner, 1});
  const Index parameters = s.dt_rank + 2 * s.state;
  const auto coefficient = [&](Index part) {
    return View<const T, 3>(views.offset(scratch.parameters.data(), s.dt_rank + part * s.state),
                            {batch, 1, s.state}, {parameters, s.state, 1});
  };
  linear_step<T>(input, weights.in_proj, {}, scratch.projected);
  causal_conv_step<T>(x, weights.conv_weight, weights.conv_bias, {.silu = true}, state.conv,
                      scratch.u);
  linear_step<T>(scratch.u, weights.x_proj, {}, scratch.parameters);
  linear_step<T>(views.dt(std::as_const(scratch.parameters).data()), weights.dt_proj, {},
                 scratch.delta);
  detail::array(scratch.A.data(), scratch.A.size()) =
      -detail::array(weights.A_log.data(), weights.A_log.size()).exp();
  selective_scan_step<T>({.u = scratch.u,
                          .delta = scratch.delta,
                          .A = scratch.A,
                          .B = coefficient(0),
                          .C = coefficient(1),
                          .D = weights.D,
                          .delta_bias = weights.dt_bias,
                          .z = z},
                         {.softplus = true}, state.scan, scratch.y);
  linear_step<T>(scratch.y, weights.out_proj, {}, output);
}

}  // namespace ssm
