#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <string>
#include <string_view>

#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/s4_weights.hpp"
#include "ssm/layers/s4d.hpp"

namespace ssm {

/// Scratch of an S4 layer, grown to its largest call.
template <class T>
struct S4Workspace {
  Tensor<std::complex<T>, 2> lambda, dlambda, dlambda_sum;  ///< (width, state/2)
  Tensor<std::complex<T>, 2> dB;                            ///< (width, state/2)
  Tensor<std::complex<T>, 3> dP;                            ///< (width, state/2, rank)
  Tensor<T, 1> delta, ddelta, ddelta_sum;                   ///< (width)
  Tensor<T, 2> kernel, dkernel;                             ///< (width, weights.length)
  Tensor<T, 3> y, du;                                       ///< of the second direction
  S4KernelWorkspace kernels;
  LongConvWorkspace<T> conv;
};

namespace detail {

/// Λ and Δ of the weights.
template <class T>
void load_s4(const S4Weights<T>& weights, S4Workspace<T>& to) {
  to.lambda.resize(weights.log_decay.extents());
  to.delta.resize(weights.log_delta.extents());
  for (Index i = 0; i < to.lambda.size(); ++i)
    to.lambda.data()[i] = {-std::exp(weights.log_decay.data()[i]), weights.frequency.data()[i]};
  for (Index c = 0; c < to.delta.size(); ++c) to.delta(c) = std::exp(weights.log_delta(c));
}

template <class T>
S4KernelInputs<T> s4_model(const S4Weights<T>& weights, const S4Workspace<T>& w, Index direction) {
  return {w.lambda, as_complex(weights.P.view()), as_complex(weights.B.view()),
          as_complex(weights.C.view()[direction]), w.delta};
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
                     ", which C is truncated for (s4_double_length doubles that)");
  return s;
}

}  // namespace detail

/// The S4 layer (Gu, Goel & Ré 2022): of every channel by itself
///
///   x′ = (Λ − P P*) x + B u,  y = C x + D u,
///
/// sampled by the bilinear map with Δ = exp(log_delta), from a state of zeros, as a convolution. A
/// bidirectional layer adds to y_t what the later inputs u_{t+1}, u_{t+2}, … give through the
/// second C, time running backward.
///
/// @param input, output (batch, length, width), not the same memory; length at most weights.length
/// @throws ShapeError, DomainError for a sequence that is too long
/// Cost: s4_kernel and long_conv; the same bits for every number of threads; allocates while the
/// workspace grows.
template <class T>
void s4_forward(const Cpu& backend, const S4Weights<T>& weights, const View<const T, 3>& input,
                const View<T, 3>& output, S4Workspace<T>& workspace) {
  constexpr std::string_view function = "s4_forward";
  const S4Shape s = detail::check_s4_call(function, weights, input);
  const Index length = input.extent(1);
  detail::check_shape(function, "output", output, input.extents());
  if (length == 0) return;
  detail::load_s4(weights, workspace);
  workspace.kernel.resize({s.width, s.length});
  const auto convolve = [&](Index direction, const View<const T, 3>& u, const View<const T, 1>& D,
                            const View<T, 3>& y) {
    s4_kernel<T>(backend, detail::s4_model(weights, workspace, direction), workspace.kernel,
                 workspace.kernels);
    const View<const T, 2> taps = workspace.kernel.view().slice(1, 0, u.extent(1));
    long_conv<T>(backend, {u, taps, D, {}}, {}, {y, {}}, workspace.conv);
  };
  convolve(0, input, weights.D, output);
  if (!s.bidirectional || length < 2) return;
  workspace.y.resize(input.extents());
  const View<T, 3> later = detail::before_last(workspace.y.view());
  convolve(1, detail::after_first(input), {}, later);
  detail::add_to<T>(later, detail::before_last(output));
}

/// The gradients of s4_forward: of every weight and the input, overwritten. The other arguments are
/// those of the forward call.
/// Cost: about three times s4_forward.
template <class T>
void s4_backward(const Cpu& backend, const S4Weights<T>& weights, const View<const T, 3>& input,
                 const View<const T, 3>& doutput, S4Weights<T>& gradients, const View<T, 3>& dinput,
                 S4Workspace<T>& workspace) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "s4_backward";
  const S4Shape s = detail::check_s4_call(function, weights, input);
  const Index length = input.extent(1);
  detail::check_shape(function, "the gradient of output", doutput, input.extents());
  detail::check_shape(function, "the gradient of input", dinput, input.extents());
  if (gradients.shape() != s) gradients = S4Weights<T>(s);
  gradients.visit([](const std::string&, auto& tensor, bool) { tensor.fill(T(0)); });
  if (length == 0) return;
  S4Workspace<T>& w = workspace;
  detail::load_s4(weights, w);
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
  const auto direction_backward = [&](Index direction, const View<const T, 3>& u,
                                      const View<const T, 1>& D, const View<const T, 3>& dy,
                                      const View<T, 3>& du, const View<T, 1>& dD) {
    const S4KernelInputs<T> model = detail::s4_model(weights, w, direction);
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
    add(w.dlambda, w.dlambda_sum.data());
    add(w.ddelta, w.ddelta_sum.data());
    add(w.dP, detail::as_complex(gradients.P.view()).data());
    add(w.dB, detail::as_complex(gradients.B.view()).data());
  };
  direction_backward(0, input, weights.D, doutput, dinput, gradients.D);
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

}  // namespace ssm
