#pragma once

#include "scratch.hpp"
#include "selective_shape.hpp"
#include "ssm/cuda/diagonal_scan.hpp"

namespace ssm {
namespace kernels {

/// A mode discretized, x_t = a x_{t−1} + b (B u_t).
template <class E>
struct Mode {
  E a, b;
};

template <class E>
struct WideOf {
  using type = double;
};
template <class T>
struct WideOf<Complex<T>> {
  using type = Complex<double>;
};
template <class E>
using Wide = typename WideOf<E>::type;

SSM_DEVICE double widened(float x) { return x; }
SSM_DEVICE double widened(double x) { return x; }
template <class T>
SSM_DEVICE Complex<double> widened(Complex<T> x) {
  return {x.re, x.im};
}
template <class E>
SSM_DEVICE E narrowed(double x) {
  return E(x);
}
template <class E>
SSM_DEVICE E narrowed(Complex<double> x) {
  return {Real<E>(x.re), Real<E>(x.im)};
}

template <class W>
SSM_DEVICE Mode<W> discretized(Discretization method, W lambda, double delta) {
  const W one(1.0), z = lambda * delta;
  switch (method) {
    case Discretization::zero_order_hold:
      return {expm1_of(z) + one, phi1(z) * delta};
    case Discretization::bilinear:
      return {quotient(one + z * 0.5, one - z * 0.5), quotient(W(delta), one - z * 0.5)};
    case Discretization::forward_euler:
      return {one + z, W(delta)};
    default:
      return {quotient(one, one - z), quotient(W(delta), one - z)};  // backward Euler
  }
}

/// a^n by squaring.
template <class W>
SSM_DEVICE W power(W a, Index n) {
  W result(1.0);
  for (; n > 0; n /= 2, a = a * a)
    if (n % 2 == 1) result = result * a;
  return result;
}

/// The scan of a piece, and where `ends` is given only its end, from zero.
template <class T, class E>
struct DiagonalForward {
  static constexpr int most_threads = 256;

  SelectiveShape shape;
  Discretization method;
  Array<const T, 3> u;
  Array<const E, 2> lambda, B, C;
  Array<const T, 1> D, delta;
  Array<const E, 3> initial_state;
  Array<T, 3> y;
  Array<E, 3> final_state;
  E* ends;           ///< (rows, pieces, channels, state)
  const E* entries;  ///< the same, null where rows are whole
  T* partial_y;      ///< (slices, rows, length, channels), null for a single slice

  SSM_DEVICE void operator()(Block& block) const {
    const SelectivePlace<0> at(shape, block);
    const bool inside = at.local < at.channels;
    LaneStates<E> a = no_states<E>(), b = a, x = a;
    const LaneStates<E> c = load_states(C, at), modes = load_states(lambda, at);
    const LaneStates<E> B_lane = load_states(B, at);
    SSM_UNROLL
    for (int p = 0; p < lane_states; ++p) {
      if (p >= at.states) break;
      const auto mode =
          discretized(method, widened(modes[p]), static_cast<double>(delta(at.channel)));
      a[p] = narrowed<E>(mode.a);
      b[p] = narrowed<E>(mode.b * widened(B_lane[p]));
    }
    if (ends == nullptr)
      x = entries != nullptr ? load_states(entries + at.piece_states(), 1, at.states)
                             : load_states(initial_state, at.row, at);
    const T D_now = D.present && inside ? D(at.channel) : T(0);
    for (Index t = at.begin(); t < at.end(); ++t) {
      const T u_now = inside ? u(at.row, t, at.channel) : T(0);
      T sum = 0;
      SSM_UNROLL
      for (int p = 0; p < lane_states; ++p) {
        x[p] = a[p] * x[p] + b[p] * u_now;
        sum += real(c[p] * x[p]);
      }
      if (ends != nullptr) continue;
      sum = output_scale<E> * sum_lanes(block, sum, at.lanes());
      if (at.lane != 0 || !inside) continue;
      if (partial_y != nullptr)
        partial_y[((at.slice_number * shape.rows + at.row) * shape.length + t) * shape.channels +
                  at.channel] = sum;
      else
        y(at.row, t, at.channel) = sum + D_now * u_now;
    }
    if (ends != nullptr)
      store_states(ends + at.piece_states(), 1, at.states, x);
    else if (at.piece + 1 == shape.cuts.count)
      store_states(final_state, at.row, at, x);
  }
};

/// Turns the ends of pieces into the states that enter them: one thread a state of a row.
template <class T, class E>
struct DiagonalCarry {
  SelectiveShape shape;
  Discretization method;
  Array<const E, 2> lambda;
  Array<const T, 1> delta;
  Array<const E, 3> initial_state;
  E* states;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i % shape.state, c = i / shape.state % shape.channels;
    const Index row = i / shape.state / shape.channels;
    const auto a = discretized(method, widened(lambda(c, n)), static_cast<double>(delta(c))).a;
    const E decay = narrowed<E>(power(a, shape.cuts.length));
    E x = initial_state.present ? initial_state(row, c, n) : E(T(0));
    for (Index piece = 0; piece < shape.cuts.count; ++piece) {
      E& state = states[((row * shape.cuts.count + piece) * shape.channels + c) * shape.state + n];
      const E next = state + decay * x;
      state = x;
      x = next;
    }
  }
};

/// Joins the slices' shares of C·x: one thread an element of y.
template <class T>
struct DiagonalJoinSlices {
  Array<const T, 3> u;
  Array<const T, 1> D;
  Array<T, 3> y;
  const T* partial_y;
  Index slices, rows, length, channels;

  SSM_DEVICE void operator()(Index i) const {
    const Index row = i / channels / length, step = i / channels % length, c = i % channels;
    T sum = D.present ? D(c) * u(row, step, c) : T(0);
    for (Index s = 0; s < slices; ++s) sum += partial_y[s * rows * length * channels + i];
    y(row, step, c) = sum;
  }
};

/// Sixteen values of a channel's kernel, 2 Re Σ C B g z^l.
template <class T>
struct S4dKernel {
  static constexpr int run = 16;

  Discretization method;
  Array<const Complex<T>, 2> lambda, B, C;
  Array<const T, 1> delta;
  Array<T, 2> K;
  Index modes, length, runs;

  SSM_DEVICE void operator()(Index i) const {
    using W = Complex<double>;
    const Index c = i / runs, first = i % runs * run;
    double sum[run] = {};
    for (Index n = 0; n < modes; ++n) {
      const Mode<W> mode =
          discretized(method, widened(lambda(c, n)), static_cast<double>(delta(c)));
      W value = widened(C(c, n)) * mode.b * power(mode.a, first);
      if (B.present) value = value * widened(B(c, n));
      SSM_UNROLL
      for (int l = 0; l < run; ++l) {
        sum[l] += value.re;
        value = value * mode.a;
      }
    }
    for (int l = 0; l < run && first + l < length; ++l) K(c, first + l) = T(2 * sum[l]);
  }
};

}  // namespace kernels

template <class T, class K>
void diagonal_scan(const Cuda& backend, Discretization method,
                   const DiagonalRecurrenceInputs<T, K, Device>& inputs,
                   const std::type_identity_t<View<const T, 1, Device>>& delta,
                   const DiagonalScanOptions& options,
                   const DiagonalRecurrenceOutputs<T, K, Device>& outputs,
                   DeviceBuffer& workspace) {
  using namespace kernels;
  using E = Element<K>;
  const char* function = "diagonal_scan";
  const auto [rows, length, channels] = inputs.u.extents();
  ssm::detail::check_diagonal_inputs(function, method, inputs);
  if (inputs.offsets)
    ssm::detail::throw_shape(function, "offsets", "given",
                             "none: on a device each row is one sequence");
  ssm::detail::check_shape(function, "delta", delta, std::array<Index, 1>{channels});
  ssm::detail::check_diagonal_outputs(function, inputs, outputs);
  if (channels == 0 || rows == 0) return;

  const SelectiveShape shape({rows, length, channels, inputs.lambda.extent(1), 1, rows}, {},
                             options.reversed, 1);
  const bool cut = shape.cuts.count > 1, sliced = shape.slices > 1;
  struct Arrays {
    E* entries;
    T* partial_y;
  };
  const Arrays arrays = lay_out(backend, workspace, [&](Scratch& s) {
    return Arrays{cut ? s.array<E>(shape.cuts.count * shape.states()) : nullptr,
                  sliced ? s.array<T>(shape.slices * inputs.u.size()) : nullptr};
  });
  DiagonalForward<T, E> forward{shape,
                                method,
                                Array<const T, 3>(inputs.u, options.reversed),
                                Array<const E, 2>(inputs.lambda),
                                Array<const E, 2>(inputs.B),
                                Array<const E, 2>(inputs.C),
                                Array<const T, 1>(inputs.D),
                                Array<const T, 1>(delta),
                                Array<const E, 3>(inputs.initial_state),
                                Array<T, 3>(outputs.y, options.reversed),
                                Array<E, 3>(outputs.final_state),
                                arrays.entries,
                                arrays.entries,
                                arrays.partial_y};
  if (cut) {
    launch(backend, function, shape.blocks(), shape.threads(), 0, forward);
    launch_elementwise(backend, function, shape.states(),
                       DiagonalCarry<T, E>{shape, method, forward.lambda, forward.delta,
                                           forward.initial_state, arrays.entries});
  }
  forward.ends = nullptr;
  launch(backend, function, shape.blocks(), shape.threads(), 0, forward);
  if (sliced)
    launch_elementwise(backend, function, inputs.u.size(),
                       DiagonalJoinSlices<T>{forward.u, forward.D, forward.y, arrays.partial_y,
                                             shape.slices, rows, length, channels});
}

template <class T>
void s4d_kernel(const Cuda& backend, Discretization method,
                const DiagonalKernelInputs<T, Device>& inputs,
                const std::type_identity_t<View<T, 2, Device>>& K) {
  using namespace kernels;
  const char* function = "s4d_kernel";
  ssm::detail::check_diagonal_kernel(function, inputs, View<const T, 2, Device>(K), "K");
  if (method != Discretization::zero_order_hold && method != Discretization::bilinear)
    ssm::detail::throw_domain(function, "method", "an Euler method", "zero_order_hold or bilinear");
  const Index length = K.extent(1), runs = (length + S4dKernel<T>::run - 1) / S4dKernel<T>::run;
  launch_elementwise(
      backend, function, K.extent(0) * runs,
      S4dKernel<T>{method, Array<const Complex<T>, 2>(inputs.lambda),
                   Array<const Complex<T>, 2>(inputs.B), Array<const Complex<T>, 2>(inputs.C),
                   Array<const T, 1>(inputs.delta), Array<T, 2>(K), inputs.lambda.extent(1), length,
                   runs});
}

}  // namespace ssm

#define SSM_DIAGONAL_SCAN(T, K)                                                   \
  template void ssm::diagonal_scan<T, K>(                                         \
      const Cuda&, Discretization, const DiagonalRecurrenceInputs<T, K, Device>&, \
      const View<const T, 1, Device>&, const DiagonalScanOptions&,                \
      const DiagonalRecurrenceOutputs<T, K, Device>&, DeviceBuffer&);
#define SSM_S4D_KERNEL(T)                                                  \
  template void ssm::s4d_kernel<T>(const Cuda&, Discretization,            \
                                   const DiagonalKernelInputs<T, Device>&, \
                                   const View<T, 2, Device>&);
