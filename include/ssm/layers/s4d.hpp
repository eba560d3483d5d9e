#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <string>
#include <string_view>

#include "ssm/conv/diagonal_kernel.hpp"
#include "ssm/conv/diagonal_state.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/detail/offsets.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/layers/detail/dss_scale.hpp"
#include "ssm/layers/s4d_weights.hpp"
#include "ssm/scan/diagonal_scan.hpp"

namespace ssm {

/// The state of an S4D layer. A plain value; zero when made.
template <class T>
struct S4dState {
  Tensor<std::complex<T>, 3> x;  ///< (batch, width, state/2), of packed sequences one each

  S4dState() = default;
  S4dState(const S4dShape& s, Index batch) : x({batch, s.width, s.modes()}) {}
};

/// How an S4D layer is computed; all give the same but for rounding.
enum class S4dForm {
  fastest,      ///< by the shape of the call, each pass as detail::forward_form and backward_form
  scan,         ///< diagonal_scan
  convolution,  ///< s4d_kernel and long_conv: zero-order hold or bilinear
  recurrence    ///< `recurrence`, step by step; its gradients are those of the scan
};

template <class T>
struct S4dOptions {
  S4dForm form = S4dForm::fastest;
  Discretization method = Discretization::zero_order_hold;
  T rate = T(1);  ///< Δ ← rate · Δ: 2 for a sequence sampled half as often as in training
  /// DSS in its softmax form (Gupta, Gu & Berant 2022, proposition 1), by zero-order hold only:
  /// B ← B/(e^{LΔλ} − 1), which divides every mode of the kernel by its sum over L steps.
  bool dss = false;
  /// L of DSS. 0: the length of each input, and then no state and no step, as these would belong to
  /// another model at every length.
  Index dss_length = 0;
  View<const Index, 1> offsets = {};  ///< (sequences + 1), optional: packed sequences, batch 1; by
                                      ///< scan or recurrence, DSS with a dss_length
};

/// Scratch of an S4D layer, grown to its largest call.
template <class T>
struct S4dWorkspace {
  using Complex = std::complex<T>;
  Tensor<Complex, 2> lambda;  ///< (width, state/2)
  Tensor<Complex, 2> B;       ///< (width, state/2), of DSS
  Tensor<T, 1> delta;         ///< (width)
  Tensor<T, 2> kernel, dkernel;
  Tensor<T, 3> y, du;                       ///< of the second direction
  Tensor<Complex, 2> dlambda, dlambda_sum;  ///< (width, state/2)
  Tensor<Complex, 2> dB;
  Tensor<T, 1> ddelta, ddelta_sum;
  DiagonalScanWorkspace<T> scan;
  DiagonalKernelWorkspace<T> kernels;
  LongConvWorkspace<T> conv;
  DiagonalRecurrenceWorkspace<Complex> recurrence;
};

namespace detail {

/// Of S4D and S4.
template <class Options>
void check_rate(std::string_view function, const Options& options) {
  if (!(options.rate > 0 && std::isfinite(options.rate)))
    throw_domain(function, "rate", std::to_string(options.rate), "above 0 and finite");
}

template <class T>
void check_dss_options(std::string_view function, const S4dOptions<T>& options, bool stateful) {
  if (!options.dss) return;
  if (options.method != Discretization::zero_order_hold)
    throw_domain(function, "method", "another", "zero_order_hold for dss");
  if (options.dss_length < 0)
    throw_domain(function, "dss_length", std::to_string(options.dss_length), "at least 0");
  if (stateful && options.dss_length == 0)
    throw_domain(function, "state", "given", "none for dss without a dss_length");
}

template <class T>
void check_packed(std::string_view function, const S4dOptions<T>& options, Index batch,
                  Index length) {
  if (!options.offsets) return;
  check_offsets(function, options.offsets, batch, length);
  if (options.form == S4dForm::convolution)
    throw_domain(function, "form", "convolution", "scan or recurrence for packed sequences");
  if (options.dss && options.dss_length == 0)
    throw_domain(function, "dss_length", "0", "above 0 for packed sequences");
}

template <class T>
Index dss_length(const S4dOptions<T>& options, Index length) noexcept {
  return std::max<Index>(options.dss_length > 0 ? options.dss_length : length, 1);
}

/// Λ, Δ and B of the weights, for an input of this length.
template <class T>
void load_s4d(const S4dWeights<T>& weights, const S4dOptions<T>& options, Index length,
              S4dWorkspace<T>& to) {
  to.lambda.resize(weights.log_decay.extents());
  to.delta.resize(weights.log_delta.extents());
  for (Index i = 0; i < to.lambda.size(); ++i)
    to.lambda.data()[i] = {-std::exp(weights.log_decay.data()[i]), weights.frequency.data()[i]};
  for (Index c = 0; c < to.delta.size(); ++c)
    to.delta(c) = options.rate * std::exp(weights.log_delta(c));
  if (!options.dss) return;
  check_dss<T>("s4d", {to.lambda, to.delta, {}, {}});
  to.B.resize(to.lambda.extents());
  scale_dss<T>({to.lambda, to.delta, dss_length(options, length)}, as_complex(weights.B.view()),
               to.B);
}

/// Sizes of a call, on which it depends what form is the fastest. On the width it does not.
struct S4dCall {
  Index batch, length, modes;
  bool convolves;  ///< from rest, and by a method that has a kernel
};

/// Steps up to which the convolution is the fastest, whatever the batch.
template <class T>
inline constexpr Index few_steps = sizeof(T) == 4 ? 48 : 24;

/// The form that `fastest` stands for: the scan, but for short sequences the convolution, whose
/// kernel costs more the more sequences share the tables of the scan, and for the shortest ones of
/// float the recurrence, which prepares nothing.
///
/// The constants fit the times of all forms on one thread of an AMD EPYC with AVX-512, built with
/// -O3 -march=native, each the least of 8 runs or more (build/bench/diagonal_scan_bench has some of
/// them), for batches of 1 to 32, 16 to 16384 steps, 2 to 64 states, widths of 1
/// to 256, float and double: the choice is within 1.15 of the fastest in 97% of these calls, 1.45
/// in the worst, 1.01 in the mean.
template <class T>
S4dForm forward_form(const S4dCall& call) noexcept {
  constexpr bool is_float = sizeof(T) == 4;
  const Index updates = call.batch * call.length;
  if (is_float && (updates <= 24 || (updates * call.modes <= 320 && call.length <= 128)))
    return S4dForm::recurrence;
  const bool few = call.length <= few_steps<T> ||
                   call.batch * (call.length - 24 - call.modes) <= (is_float ? 88 : 28);
  return call.convolves && few ? S4dForm::convolution : S4dForm::scan;
}

/// The same for the gradients, of which the recurrence has none: 1.25 of the fastest in the worst.
template <class T>
S4dForm backward_form(const S4dCall& call) noexcept {
  return call.convolves && call.length <= few_steps<T> ? S4dForm::convolution : S4dForm::scan;
}

/// One direction of an S4D layer, whose time runs forward in u and y, or with `reversed`, which
/// packed sequences alone use, from the end of each sequence to its start.
template <class T>
struct S4dPass {
  using Complex = std::complex<T>;
  const Cpu& backend;
  const S4dWeights<T>& weights;
  const S4dOptions<T>& options;
  S4dWorkspace<T>& workspace;
  Index direction;
  bool reversed = false;

  [[nodiscard]] View<const Complex, 2> B() const {
    return options.dss ? workspace.B.view() : as_complex(weights.B.view());
  }
  [[nodiscard]] View<const Complex, 2> C() const { return as_complex(weights.C.view()[direction]); }
  [[nodiscard]] View<const T, 1> D() const {
    return direction == 0 ? weights.D.view() : View<const T, 1>();
  }
  [[nodiscard]] DiagonalKernelInputs<T> model() const {
    return {workspace.lambda, workspace.delta, B(), C()};
  }
  /// The form of a pass over u, of which `choose` knows the fastest.
  template <class Choose>
  [[nodiscard]] S4dForm form(const View<const T, 3>& u, bool stateful, const Choose& choose) const {
    if (options.offsets)
      return options.form == S4dForm::recurrence && !reversed ? options.form : S4dForm::scan;
    if (u.extent(1) == 0) return S4dForm::scan;
    if (options.form != S4dForm::fastest) return options.form;
    const bool has_kernel = options.method == Discretization::zero_order_hold ||
                            options.method == Discretization::bilinear;
    return choose(
        S4dCall{u.extent(0), u.extent(1), workspace.lambda.extent(1), has_kernel && !stateful});
  }
  void make_kernel(Index length) const {
    workspace.kernel.resize({workspace.delta.extent(0), length});
    s4d_kernel<T>(backend, options.method, model(), workspace.kernel, workspace.kernels);
  }
  [[nodiscard]] DiagonalRecurrenceInputs<T, Complex> inputs(
      const View<const T, 3>& u, const View<const Complex, 3>& initial) const {
    return {u, workspace.lambda, B(), C(), D(), initial, options.offsets};
  }

  void forward(const View<const T, 3>& u, const View<const Complex, 3>& initial,
               const View<T, 3>& y, const View<Complex, 3>& final) const {
    S4dWorkspace<T>& w = workspace;
    switch (form(u, initial || final, forward_form<T>)) {
      case S4dForm::convolution:
        make_kernel(u.extent(1));
        long_conv<T>(backend, {u, w.kernel, D(), {}}, {}, {y, {}}, w.conv);
        if (initial || final)
          s4d_pass_state<T>(backend, options.method, model(), {u, initial}, {y, final}, w.kernels);
        return;
      case S4dForm::recurrence:
        return recurrence<T, Complex>(backend, options.method, inputs(u, initial), w.delta,
                                      {y, final}, w.recurrence);
      default:
        return diagonal_scan<T, Complex>(backend, options.method, inputs(u, initial), w.delta,
                                         {reversed}, {y, final}, w.scan);
    }
  }

  /// Overwrites din, all of it present but for the gradients of D and the initial state.
  void backward(const View<const T, 3>& u, const View<const Complex, 3>& initial,
                const View<const T, 3>& dy, const View<const Complex, 3>& dfinal,
                const DiagonalScanInputGradients<T, Complex>& din) const {
    S4dWorkspace<T>& w = workspace;
    const bool stateful = initial || dfinal || din.initial_state;
    if (form(u, stateful, backward_form<T>) != S4dForm::convolution)
      return diagonal_scan_backward<T, Complex>(backend, options.method, inputs(u, initial),
                                                w.delta, {reversed}, {dy, dfinal}, din, w.scan);
    make_kernel(u.extent(1));
    w.dkernel.resize(w.kernel.extents());
    long_conv_backward<T>(backend, {u, w.kernel, D(), {}}, {}, {dy, {}},
                          {din.u, w.dkernel, din.D, {}}, w.conv);
    const DiagonalKernelGradients<T> model_gradients{din.lambda, din.delta, din.B, din.C};
    s4d_kernel_backward<T>(backend, options.method, model(), w.dkernel, model_gradients, w.kernels);
    if (stateful)
      s4d_pass_state_backward<T>(backend, options.method, model(), {u, initial}, {dy, dfinal},
                                 {din.u, din.initial_state, model_gradients}, w.kernels);
  }
};

/// All steps but the first, or but the last, from the end to the start: what the second direction
/// reads, and where it writes.
template <class T>
[[nodiscard]] View<T, 3> after_first(const View<T, 3>& x) {
  return x.slice(1, 1, x.extent(1) - 1).reversed(1);
}
template <class T>
[[nodiscard]] View<T, 3> before_last(const View<T, 3>& x) {
  return x.slice(1, 0, x.extent(1) - 1).reversed(1);
}

/// Calls body(t) for every step of packed sequences that another follows.
template <class Body>
void for_followed_steps(const View<const Index, 1>& offsets, const Body& body) {
  for (Index s = 0; s + 1 < offsets.extent(0); ++s)
    for (Index t = offsets(s); t + 1 < offsets(s + 1); ++t) body(t);
}

template <class T>
void add_to(const View<const T, 3>& from, const View<T, 3>& to) {
  for (Index b = 0; b < to.extent(0); ++b)
    for (Index t = 0; t < to.extent(1); ++t)
      for (Index c = 0; c < to.extent(2); ++c) to(b, t, c) += from(b, t, c);
}

/// Of S4D and S4.
template <class Shape, class State>
void check_s4d_states(std::string_view function, const Shape& s, Index batch,
                      std::string_view argument, const State* state) {
  if (!state) return;
  if (s.bidirectional)
    throw_domain(function, argument, "given", "no state, as a pass from the end has none");
  check_shape(function, argument, state->x, std::array<Index, 3>{batch, s.width, s.modes()});
}

}  // namespace detail

/// The S4D layer (Gu, Gupta, Goel & Ré 2022): of every channel by itself
///
///   x′ = Λ x + B u,  y = 2 Re(C x) + D u,  Λ = −exp(log_decay) + i frequency,
///
/// sampled with Δ = rate · exp(log_delta). A bidirectional layer adds to y_t what the later inputs
/// u_{t+1}, u_{t+2}, … give through the second C, time running backward.
///
/// An input that is NaN or infinite spoils the outputs of its channel from its step on, and earlier
/// ones too: the scan those of its chunk of at most 32 steps, the convolution up to all of the
/// sequence. The form `recurrence` and s4d_step, which take step after step, spoil none before it.
///
/// @param input, output (batch, length, width), not the same memory
/// @param initial null: a state of zeros; final null: not wanted. The two must differ.
/// @throws ShapeError, and DomainError for a rate that is not above 0, a state of a bidirectional
///   layer, offsets that run backward or past the end or meet a convolution, a convolution by an
///   Euler method, or dss by another method or with a state but no length
/// Cost: as diagonal_scan, or as s4d_kernel and long_conv; the same bits for every number of
/// threads; allocates while the workspace grows.
template <class T>
void s4d_forward(const Cpu& backend, const S4dWeights<T>& weights, const View<const T, 3>& input,
                 const S4dState<T>* initial, const View<T, 3>& output, S4dState<T>* final,
                 const S4dOptions<T>& options, S4dWorkspace<T>& workspace) {
  constexpr std::string_view function = "s4d_forward";
  const S4dShape s = detail::check_s4d(function, weights);
  const Index batch = input.extent(0), length = input.extent(1);
  const std::array<Index, 3> extents{batch, length, s.width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "output", output, extents);
  detail::check_rate(function, options);
  detail::check_dss_options(function, options, initial || final);
  detail::check_packed(function, options, batch, length);
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : batch;
  detail::check_s4d_states(function, s, sequences, "initial", initial);
  if (final) final->x.resize({sequences, s.width, s.modes()});
  detail::check_s4d_states(function, s, sequences, "final", final);
  detail::load_s4d(weights, options, length, workspace);
  const detail::S4dPass<T> pass{backend, weights, options, workspace, 0};
  pass.forward(input, initial ? initial->x.view() : View<const std::complex<T>, 3>(), output,
               final ? final->x.view() : View<std::complex<T>, 3>());
  if (!s.bidirectional || length < 2) return;
  workspace.y.resize(extents);
  const detail::S4dPass<T> back{backend, weights, options, workspace, 1, bool(options.offsets)};
  if (options.offsets) {
    back.forward(input, {}, workspace.y, {});
    detail::for_followed_steps(options.offsets, [&](Index t) {
      for (Index c = 0; c < s.width; ++c) output(0, t, c) += workspace.y(0, t + 1, c);
    });
    return;
  }
  const View<T, 3> later = detail::before_last(workspace.y.view());
  back.forward(detail::after_first(input), {}, later, {});
  detail::add_to<T>(later, detail::before_last(output));
}

/// The gradients of s4d_forward: of every weight and the input, overwritten, and of the initial
/// state unless `dinitial` is null. `dfinal` is the gradient of the final state, null: zero. The
/// other arguments are those of the forward call.
/// Cost: about three times s4d_forward.
template <class T>
void s4d_backward(const Cpu& backend, const S4dWeights<T>& weights, const View<const T, 3>& input,
                  const S4dState<T>* initial, const S4dOptions<T>& options,
                  const View<const T, 3>& doutput, const S4dState<T>* dfinal,
                  S4dWeights<T>& gradients, const View<T, 3>& dinput, S4dState<T>* dinitial,
                  S4dWorkspace<T>& workspace) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "s4d_backward";
  const S4dShape s = detail::check_s4d(function, weights);
  const Index batch = input.extent(0), length = input.extent(1);
  const std::array<Index, 3> extents{batch, length, s.width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "the gradient of output", doutput, extents);
  detail::check_shape(function, "the gradient of input", dinput, extents);
  detail::check_rate(function, options);
  detail::check_dss_options(function, options, initial || dfinal || dinitial);
  detail::check_packed(function, options, batch, length);
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : batch;
  detail::check_s4d_states(function, s, sequences, "initial", initial);
  detail::check_s4d_states(function, s, sequences, "the gradient of final", dfinal);
  if (dinitial) dinitial->x.resize({sequences, s.width, s.modes()});
  detail::check_s4d_states(function, s, sequences, "the gradient of initial", dinitial);
  if (gradients.shape() != s) gradients = S4dWeights<T>(s);
  S4dWorkspace<T>& w = workspace;
  detail::load_s4d(weights, options, length, w);
  w.dlambda_sum.resize(w.lambda.extents());
  w.ddelta_sum.resize(w.delta.extents());

  const View<Complex, 2> dB = detail::as_complex(gradients.B.view());
  const detail::S4dPass<T> pass{backend, weights, options, w, 0};
  pass.backward(input, initial ? initial->x.view() : View<const Complex, 3>(), doutput,
                dfinal ? dfinal->x.view() : View<const Complex, 3>(),
                {.u = dinput,
                 .lambda = w.dlambda_sum,
                 .B = dB,
                 .C = detail::as_complex(gradients.C.view()[0]),
                 .D = gradients.D,
                 .delta = w.ddelta_sum,
                 .initial_state = dinitial ? dinitial->x.view() : View<Complex, 3>()});
  if (s.bidirectional) {
    const View<Complex, 2> dC = detail::as_complex(gradients.C.view()[1]);
    w.dlambda.resize(w.lambda.extents());
    w.dB.resize(w.lambda.extents());
    w.ddelta.resize(w.delta.extents());
    w.du.resize(extents);
    const detail::S4dPass<T> back{backend, weights, options, w, 1, bool(options.offsets)};
    const auto turn_back = [&](const View<const T, 3>& u, const View<const T, 3>& dy,
                               const View<T, 3>& du, const View<T, 3>& to) {
      back.backward(u, {}, dy, {},
                    {.u = du,
                     .lambda = w.dlambda,
                     .B = w.dB,
                     .C = dC,
                     .D = {},
                     .delta = w.ddelta,
                     .initial_state = {}});
      detail::add_to<T>(du, to);
    };
    if (options.offsets) {
      w.y.resize(extents);
      w.y.fill(T(0));
      detail::for_followed_steps(options.offsets, [&](Index t) {
        for (Index c = 0; c < s.width; ++c) w.y(0, t + 1, c) = doutput(0, t, c);
      });
      turn_back(input, w.y, w.du, dinput);
    } else {
      const Index steps = std::max<Index>(length, 1) - 1;
      const auto cut = [steps](const auto& x, bool first) {
        return x.slice(1, first || steps == 0 ? 0 : 1, steps).reversed(1);
      };
      turn_back(cut(input, false), cut(doutput, true), cut(w.du.view(), false), cut(dinput, false));
    }
    for (Index i = 0; i < w.lambda.size(); ++i) {
      w.dlambda_sum.data()[i] += w.dlambda.data()[i];
      dB.data()[i] += w.dB.data()[i];
    }
    for (Index c = 0; c < s.width; ++c) w.ddelta_sum(c) += w.ddelta(c);
  }
  if (options.dss)
    detail::scale_dss_backward<T>({w.lambda, w.delta, detail::dss_length(options, length)},
                                  detail::as_complex(weights.B.view()), dB, w.dlambda_sum,
                                  w.ddelta_sum);
  // Re λ and Δ are exponentials, their own derivatives.
  for (Index i = 0; i < w.lambda.size(); ++i) {
    gradients.log_decay.data()[i] = w.dlambda_sum.data()[i].real() * w.lambda.data()[i].real();
    gradients.frequency.data()[i] = w.dlambda_sum.data()[i].imag();
  }
  for (Index c = 0; c < s.width; ++c) gradients.log_delta(c) = w.ddelta_sum(c) * w.delta(c);
}

}  // namespace ssm
