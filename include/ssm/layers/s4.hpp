#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/conv/s4_state.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/detail/step_checks.hpp"
#include "ssm/layers/s4_weights.hpp"
#include "ssm/layers/s4d.hpp"

namespace ssm {

/// The state of an S4 layer. A plain value; zero when made.
template <class T>
struct S4State {
  Tensor<std::complex<T>, 3> x;  ///< (batch, width, state/2)

  S4State() = default;
  S4State(const S4Shape& s, Index batch) : x({batch, s.width, s.modes()}) {}
};

template <class T>
struct S4Options {
  T rate = T(1);  ///< Δ ← rate · Δ: 2 for a sequence sampled half as often as in training
};

/// Scratch of an S4 layer, grown to its largest call.
template <class T>
struct S4Workspace {
  Tensor<std::complex<T>, 2> lambda, dlambda, dlambda_sum;  ///< (width, state/2)
  Tensor<std::complex<T>, 2> dB, dC;                        ///< (width, state/2)
  Tensor<std::complex<T>, 3> dP;                            ///< (width, state/2, rank)
  Tensor<T, 1> delta, ddelta, ddelta_sum;                   ///< (width)
  Tensor<T, 2> kernel, dkernel;                             ///< (width, weights.length)
  Tensor<T, 3> y, du;                                       ///< of the second direction
  S4Weights<T> trained;                                     ///< whose output at another rate is C
  T rate = T(1);                                            ///< of C
  Tensor<T, 4> C;                                           ///< C̃ (directions, width, state/2, 2)
  S4KernelWorkspace kernels;
  S4StateWorkspace states;
  LongConvWorkspace<T> conv;
};

namespace detail {

/// Makes workspace.C the C̃ of the weights at another rate, unless it is that already.
template <class T>
void change_rate(const S4Weights<T>& weights, T rate, S4Workspace<T>& workspace) {
  const S4Weights<T>& old = workspace.trained;
  const auto same = [](const auto& a, const auto& b) {
    return a.extents() == b.extents() && std::equal(a.begin(), a.end(), b.begin());
  };
  if (workspace.rate == rate && weights.length == old.length &&
      same(weights.log_decay, old.log_decay) && same(weights.frequency, old.frequency) &&
      same(weights.log_delta, old.log_delta) && same(weights.P, old.P) && same(weights.C, old.C))
    return;
  S4Weights<T> changed = weights;
  s4_change_rate(changed, static_cast<double>(rate));
  workspace.trained = weights;
  workspace.C = std::move(changed.C);
  workspace.rate = rate;
}

/// Λ, Δ and C̃ of the weights at a rate.
template <class T>
void load_s4(const S4Weights<T>& weights, T rate, S4Workspace<T>& to) {
  to.lambda.resize(weights.log_decay.extents());
  to.delta.resize(weights.log_delta.extents());
  for (Index i = 0; i < to.lambda.size(); ++i)
    to.lambda.data()[i] = {-std::exp(weights.log_decay.data()[i]), weights.frequency.data()[i]};
  for (Index c = 0; c < to.delta.size(); ++c) to.delta(c) = rate * std::exp(weights.log_delta(c));
  if (rate != T(1)) change_rate(weights, rate, to);
}

/// What load_s4 has loaded.
template <class T>
S4KernelInputs<T> s4_model(const S4Weights<T>& weights, T rate, const S4Workspace<T>& w,
                           Index direction) {
  const Tensor<T, 4>& C = rate == T(1) ? weights.C : w.C;
  return {w.lambda, as_complex(weights.P.view()), as_complex(weights.B.view()),
          as_complex(C.view()[direction]), w.delta};
}

template <class T>
S4Shape check_s4_call(std::string_view function, const S4Weights<T>& weights,
                      const View<const T, 3>& input) {
  const S4Shape s = check_s4_weights(function, weights);
  check_shape(function, "input", input,
              std::array<Index, 3>{input.extent(0), input.extent(1), s.width});
  if (input.extent(1) > s.length)
    throw_domain(function, "length", std::to_string(input.extent(1)),
                 "at most " + std::to_string(s.length) +
                     ", which C is truncated for (s4_double_length doubles that, and a state "
                     "carries on from piece to piece)");
  return s;
}

}  // namespace detail

/// The S4 layer (Gu, Goel & Ré 2022): of every channel by itself
///
///   x′ = (Λ − P P*) x + B u,  y = C x + D u,
///
/// sampled by the bilinear map with Δ = rate · exp(log_delta), as a convolution and, where there is
/// one, what the initial state adds to it. A bidirectional layer adds to y_t what the later inputs
/// u_{t+1}, u_{t+2}, … give through the second C, time running backward. There is one form: the
/// kernel by Cauchy sums, and long_conv, which takes the direct sum or a transform as the length
/// asks. A scan would need C itself, in O(state³ log length) a channel whenever the weights change;
/// s4_step and S4Recurrence pay that once. An input that is NaN or infinite may spoil all outputs
/// of its channel, earlier ones too, where those two spoil none before it.
///
/// @param input, output (batch, length, width), not the same memory; length at most weights.length
/// @param initial null: a state of zeros; final null: not wanted. The two must differ.
/// @throws ShapeError, and DomainError for a sequence that is too long, a state of a bidirectional
///   layer, or a rate that is not above 0
/// Cost: s4_kernel and long_conv, with a state s4_pass_state, at another rate s4_change_rate when
/// the weights are not those of the last call; the same bits for every number of
/// threads; allocates while the workspace grows.
template <class T>
void s4_forward(const Cpu& backend, const S4Weights<T>& weights, const View<const T, 3>& input,
                const S4State<T>* initial, const View<T, 3>& output, S4State<T>* final,
                const S4Options<T>& options, S4Workspace<T>& workspace) {
  constexpr std::string_view function = "s4_forward";
  const S4Shape s = detail::check_s4_call(function, weights, input);
  detail::check_rate(function, options);
  const Index batch = input.extent(0), length = input.extent(1);
  detail::check_shape(function, "output", output, input.extents());
  detail::check_s4d_states(function, s, batch, "initial", initial);
  if (final) final->x.resize({batch, s.width, s.modes()});
  detail::check_s4d_states(function, s, batch, "final", final);
  detail::load_s4(weights, options.rate, workspace);
  const auto convolve = [&](Index direction, const View<const T, 3>& u, const View<const T, 1>& D,
                            const View<T, 3>& y) {
    workspace.kernel.resize({s.width, s.length});
    s4_kernel<T>(backend, detail::s4_model(weights, options.rate, workspace, direction),
                 workspace.kernel, workspace.kernels);
    const View<const T, 2> taps = workspace.kernel.view().slice(1, 0, u.extent(1));
    long_conv<T>(backend, {u, taps, D, {}}, {}, {y, {}}, workspace.conv);
  };
  if (length > 0) convolve(0, input, weights.D, output);
  if (initial || final)
    s4_pass_state<T>(backend, detail::s4_model(weights, options.rate, workspace, 0), s.length,
                     {input, initial ? initial->x.view() : View<const std::complex<T>, 3>()},
                     {output, final ? final->x.view() : View<std::complex<T>, 3>()},
                     workspace.states);
  if (!s.bidirectional || length < 2) return;
  workspace.y.resize(input.extents());
  const View<T, 3> later = detail::before_last(workspace.y.view());
  convolve(1, detail::after_first(input), {}, later);
  detail::add_to<T>(later, detail::before_last(output));
}

/// The gradients of s4_forward: of every weight and the input, overwritten, and of the initial
/// state unless `dinitial` is null. `dfinal` is the gradient of the final state, null: zero. The
/// other arguments are those of the forward call, whose rate is 1: training at another is that of
/// the weights that s4_change_rate makes.
/// @throws as s4_forward, and DomainError for another rate
/// Cost: about three times s4_forward.
template <class T>
void s4_backward(const Cpu& backend, const S4Weights<T>& weights, const View<const T, 3>& input,
                 const S4State<T>* initial, const S4Options<T>& options,
                 const View<const T, 3>& doutput, const S4State<T>* dfinal, S4Weights<T>& gradients,
                 const View<T, 3>& dinput, S4State<T>* dinitial, S4Workspace<T>& workspace) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "s4_backward";
  const S4Shape s = detail::check_s4_call(function, weights, input);
  const Index batch = input.extent(0), length = input.extent(1);
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_shape(function, "the gradient of input", dinput, input.extents());
  detail::check_s4d_states(function, s, batch, "initial", initial);
  detail::check_s4d_states(function, s, batch, "the gradient of final", dfinal);
  if (dinitial) dinitial->x.resize({batch, s.width, s.modes()});
  detail::check_s4d_states(function, s, batch, "the gradient of initial", dinitial);
  if (options.rate != T(1))
    detail::throw_domain(function, "rate", std::to_string(options.rate),
                         "1 (s4_change_rate makes weights that train at another)");
  if (gradients.shape() != s) gradients = S4Weights<T>(s);
  gradients.visit([](const std::string&, auto& tensor, bool) { tensor.fill(T(0)); });
  S4Workspace<T>& w = workspace;
  detail::load_s4(weights, T(1), w);
  w.kernel.resize({s.width, s.length});
  w.dkernel.resize({s.width, s.length});
  w.dlambda.resize(w.lambda.extents());
  w.dlambda_sum.resize(w.lambda.extents());
  w.dlambda_sum.fill(Complex(0));
  w.dB.resize(w.lambda.extents());
  w.dP.resize({s.width, s.modes(), s.rank});
  w.ddelta.resize({s.width});
  w.ddelta_sum.resize({s.width});
  w.ddelta_sum.fill(T(0));
  const auto add = [](const auto& from, auto* to) {
    for (Index i = 0; i < from.size(); ++i) to[i] += from.data()[i];
  };
  const auto add_model = [&] {
    add(w.dlambda, w.dlambda_sum.data());
    add(w.ddelta, w.ddelta_sum.data());
    add(w.dP, detail::as_complex(gradients.P.view()).data());
    add(w.dB, detail::as_complex(gradients.B.view()).data());
  };
  const auto direction_backward = [&](Index direction, const View<const T, 3>& u,
                                      const View<const T, 1>& D, const View<const T, 3>& dy,
                                      const View<T, 3>& du, const View<T, 1>& dD) {
    const S4KernelInputs<T> model = detail::s4_model(weights, T(1), w, direction);
    const Index steps = u.extent(1);
    s4_kernel<T>(backend, model, w.kernel, w.kernels);
    w.dkernel.fill(T(0));  // taps beyond the sequence meet no input
    const View<const T, 2> taps = w.kernel.view().slice(1, 0, steps);
    long_conv_backward<T>(backend, {u, taps, D, {}}, {}, {dy, {}},
                          {du, w.dkernel.view().slice(1, 0, steps), dD, {}}, w.conv);
    s4_kernel_backward<T>(
        backend, model, w.dkernel,
        {w.dlambda, w.dP, w.dB, detail::as_complex(gradients.C.view()[direction]), w.ddelta},
        w.kernels);
    add_model();
  };
  if (length > 0) direction_backward(0, input, weights.D, doutput, dinput, gradients.D);
  if (initial || dfinal || dinitial) {
    const auto view = [](auto* state) {
      return state ? state->x.view() : decltype(state->x.view())();
    };
    w.dC.resize(w.lambda.extents());
    s4_pass_state_backward<T>(backend, detail::s4_model(weights, T(1), w, 0), s.length,
                              {input, view(initial)}, {doutput, view(dfinal)},
                              {dinput, view(dinitial), {w.dlambda, w.dP, w.dB, w.dC, w.ddelta}},
                              w.states);
    add_model();
    add(w.dC, detail::as_complex(gradients.C.view()[0]).data());
  }
  if (s.bidirectional && length > 1) {
    w.du.resize(input.extents());
    const View<T, 3> du = detail::after_first(w.du.view());
    direction_backward(1, detail::after_first(input), {}, detail::before_last(doutput), du, {});
    detail::add_to<T>(du, detail::after_first(dinput));
  }
  // Re Λ and Δ are exponentials, their own derivatives.
  for (Index i = 0; i < w.lambda.size(); ++i) {
    gradients.log_decay.data()[i] = w.dlambda_sum.data()[i].real() * w.lambda.data()[i].real();
    gradients.frequency.data()[i] = w.dlambda_sum.data()[i].imag();
  }
  for (Index c = 0; c < s.width; ++c) gradients.log_delta(c) = w.ddelta_sum(c) * w.delta(c);
}

/// What s4_step needs beside the weights: the options, and the steps and true outputs of the
/// channels, made of the weights that it met last.
template <class T>
class S4StepScratch {
 public:
  /// @throws ShapeError, DomainError for weights of two directions or a rate that is not above 0
  /// Cost: O(state³ log length) a channel.
  explicit S4StepScratch(const S4Weights<T>& weights, const S4Options<T>& options = {})
      : shape_(detail::check_s4_weights("S4StepScratch", weights)),
        rate_(static_cast<double>(options.rate)),
        weights_(weights),
        lengths_(static_cast<std::size_t>(shape_.width), weights.length),
        steps_(static_cast<std::size_t>(shape_.width),
               DplrStep<double>(shape_.modes(), shape_.rank)),
        outputs_({shape_.width, shape_.state}),
        x_({shape_.modes()}),
        model_(shape_.modes(), shape_.rank) {
    detail::check_one_direction("S4StepScratch", shape_);
    detail::check_rate("S4StepScratch", options);
    powers_.resize(shape_.state, 3);
    for (Index c = 0; c < shape_.width; ++c) make(c);
  }

  /// Makes a channel again unless its weights, of the same sizes, are those of the last step.
  void refresh(const S4Weights<T>& weights, Index channel) noexcept {
    const auto visit = [&](const auto& body) {
      const auto rows = [&](const auto& now, auto& then) {
        const Index size = now.size() / shape_.width;
        return body(now.data() + channel * size, size, then.data() + channel * size);
      };
      return rows(weights.log_delta, weights_.log_delta) &&
             rows(weights.log_decay, weights_.log_decay) &&
             rows(weights.frequency, weights_.frequency) && rows(weights.P, weights_.P) &&
             rows(weights.B, weights_.B) && rows(weights.C, weights_.C);
    };
    Index& length = lengths_[static_cast<std::size_t>(channel)];
    if (length == weights.length && visit([](const T* now, Index size, const T* then) {
          return std::equal(now, now + size, then);
        }))
      return;
    visit([](const T* now, Index size, T* then) {
      std::copy_n(now, size, then);
      return true;
    });
    length = weights.length;
    make(channel);
  }

  /// C h + D u of a channel whose state (state/2) moves from h to where u takes it.
  T operator()(Index channel, T D, T u, std::complex<T>* h) noexcept {
    std::copy_n(h, x_.size(), x_.data());
    steps_[static_cast<std::size_t>(channel)](static_cast<double>(u), x_.data());
    const double y = detail::dot_rows(shape_.state, &outputs_(channel, 0),
                                      reinterpret_cast<const double*>(x_.data()));
    for (Index n = 0; n < x_.size(); ++n) h[n] = std::complex<T>(x_(n));
    return static_cast<T>(y + static_cast<double>(D) * static_cast<double>(u));
  }

  /// Of the weights that it was made for, but for their length, which may change.
  [[nodiscard]] const S4Shape& shape() const noexcept { return shape_; }

 private:
  void make(Index channel) noexcept {
    const auto i = static_cast<std::size_t>(channel);
    const double delta = std::exp(static_cast<double>(weights_.log_delta(channel)));
    model_.load(weights_, channel);
    steps_[i].assign(model_.lambda, model_.P, model_.B, delta);
    double* const c = &outputs_(channel, 0);
    for (Index n = 0; n < x_.size(); ++n) {
      c[2 * n] = 2 * static_cast<double>(weights_.C(0, channel, n, 0));
      c[2 * n + 1] = -2 * static_cast<double>(weights_.C(0, channel, n, 1));
    }
    powers_.untruncate(steps_[i], lengths_[i], c);
    if (rate_ != 1) steps_[i].assign(model_.lambda, model_.P, model_.B, rate_ * delta);
  }

  S4Shape shape_;
  double rate_;
  S4Weights<T> weights_;
  std::vector<Index> lengths_;           // (width): what C̃ was truncated for
  std::vector<DplrStep<double>> steps_;  // (width)
  Tensor<double, 2> outputs_;            // (width, state): 2 Re C, −2 Im C
  Tensor<std::complex<double>, 1> x_;    // (state/2)
  detail::S4ChannelModel model_;
  detail::DplrPowers powers_;
};

/// One step on the calling thread, `state` moved on in place; the same as s4_forward of length 1
/// with the options of the scratch, at any number of steps. Nothing is allocated; FlushDenormals
/// keeps a state that decays in silence from slowing it down. A channel whose weights differ from
/// those of the last step is made again, in O(state³ log length); that apart a step costs about (6
/// + 4 rank) · width · state multiply-adds. A shape that does not fit ends the program with a
/// ShapeError.
///
/// @param input, output (batch, width), may be the same memory
/// @param scratch made for weights of this shape, of any values and length
template <class T>
void s4_step(const S4Weights<T>& weights, const View<const T, 2>& input, S4State<T>& state,
             const View<T, 2>& output, S4StepScratch<T>& scratch) noexcept {
  const S4Shape s = weights.shape();
  const Index batch = input.extent(0);
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "s4_step";
    detail::check_s4_weights(function, weights);
    S4Shape served = scratch.shape();
    served.length = s.length;
    detail::check_step(function, s, served, input, state.x, output,
                       std::array<Index, 3>{batch, s.width, s.modes()});
  });
  for (Index c = 0; c < s.width; ++c) {
    scratch.refresh(weights, c);
    for (Index b = 0; b < batch; ++b)
      output(b, c) = scratch(c, weights.D(c), input(b, c), &state.x(b, c, 0));
  }
}

}  // namespace ssm
