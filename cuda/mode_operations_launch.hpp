#pragma once

#include <array>
#include <cmath>
#include <string>

#include "diagonal_backward.hpp"
#include "row_place.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/cuda/mode_operations.hpp"

namespace ssm {
namespace kernels {

using WideComplex = Complex<double>;

/// 1/(e^{LΔλ} − 1), by which DSS scales B.
SSM_DEVICE WideComplex dss_factor(WideComplex lambda, double delta, double length) {
  return quotient(WideComplex(1.0), expm1_of(lambda * (length * delta)));
}

/// A thread a mode.
template <class T>
struct SampleModes {
  using K = Complex<T>;
  Array<const T, 2> log_decay, frequency;
  Array<const T, 1> log_delta;
  Array<const K, 2> B;
  Array<K, 2> lambda;
  Array<T, 1> delta;
  Array<K, 2> B_out, a_bar, b_bar;
  double rate, dss_length;
  Discretization method;
  Index modes;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i / modes, n = i % modes;
    const T step = T(rate) * std::exp(log_delta(c));
    const K narrow_lambda{-std::exp(log_decay(c, n)), frequency(c, n)};
    if (delta.present && n == 0) delta(c) = step;
    if (lambda.present) lambda(c, n) = narrow_lambda;
    K now = B.present ? K(B(c, n)) : K(T(1));
    if (dss_length > 0)
      now = narrowed<K>(dss_factor(widened(narrow_lambda), static_cast<double>(step), dss_length) *
                        widened(now));
    if (B_out.present) B_out(c, n) = now;
    if (!a_bar.present && !b_bar.present) return;
    const WideComplex wide{-std::exp(static_cast<double>(log_decay(c, n))),
                           static_cast<double>(frequency(c, n))};
    const auto mode = discretized(method, wide, rate * std::exp(static_cast<double>(log_delta(c))));
    if (a_bar.present) a_bar(c, n) = narrowed<K>(mode.a);
    if (b_bar.present) b_bar(c, n) = narrowed<K>(mode.b * widened(now));
  }
};

/// A thread a group. p_k stands for the conjugate of the gradient by k: the loss moves by
/// Re(p_k dk).
template <class T>
struct SampleModesBackward {
  using K = Complex<T>;
  Array<const T, 2> log_decay, frequency;
  Array<const T, 1> log_delta;
  Array<const K, 2> B, lambda;
  Array<const T, 1> delta;
  Array<const K, 2> dlambda;
  Array<const T, 1> ddelta;
  Array<const K, 2> dB, da_bar, db_bar;
  Array<T, 2> dlog_decay, dfrequency;
  Array<T, 1> dlog_delta;
  Array<K, 2> dB_in;
  double rate, dss_length;
  Discretization method;
  Index modes;

  SSM_DEVICE static WideComplex slope(const Array<const K, 2>& of, Index c, Index n) {
    return of.present ? conjugate(widened(of(c, n))) : WideComplex(0.0);
  }
  SSM_DEVICE void operator()(Index c) const {
    const bool bars = da_bar.present || db_bar.present;
    const double step = delta.present && !bars ? static_cast<double>(delta(c))
                                               : rate * std::exp(static_cast<double>(log_delta(c)));
    double by_delta = ddelta.present ? static_cast<double>(ddelta(c)) : 0.0;
    for (Index n = 0; n < modes; ++n) {
      const WideComplex at = lambda.present && !bars
                                 ? widened(lambda(c, n))
                                 : WideComplex{-std::exp(static_cast<double>(log_decay(c, n))),
                                               static_cast<double>(frequency(c, n))};
      WideComplex p_lambda = slope(dlambda, c, n), p_B = slope(dB, c, n);
      const WideComplex b = B.present ? widened(B(c, n)) : WideComplex(1.0);
      const WideComplex factor =
          dss_length > 0 ? dss_factor(at, step, dss_length) : WideComplex(1.0);
      if (bars) {
        const auto slopes = mode_slopes(method, at, step);
        const WideComplex p_a = slope(da_bar, c, n), p_b = slope(db_bar, c, n);
        const WideComplex p_factor = p_b * factor * b;
        p_B += p_b * discretized(method, at, step).b;
        p_lambda += p_a * slopes.a_by_lambda + p_factor * slopes.b_by_lambda;
        by_delta += (p_a * slopes.a_by_delta + p_factor * slopes.b_by_delta).re;
      }
      if (dss_length > 0) {
        const WideComplex p_x =  // x = Δλ
            p_B * b * (factor * (WideComplex(1.0) + factor)) * -dss_length;
        p_B = p_B * factor;
        p_lambda += p_x * step;
        by_delta += (p_x * at).re;
      }
      if (dB_in.present) dB_in(c, n) = narrowed<K>(conjugate(p_B));
      if (dlog_decay.present) dlog_decay(c, n) = T(p_lambda.re * at.re);
      if (dfrequency.present) dfrequency(c, n) = T(-p_lambda.im);
    }
    if (dlog_delta.present) dlog_delta(c) = T(by_delta * step);
  }
};

/// A thread an element: B̄, or, by the conjugate of the factor, the gradient of B.
template <class T>
struct ScaleInputRows {
  Array<const Complex<T>, 1> factor;
  Array<const T, 3> from;
  Array<T, 3> to;
  Index width;
  bool conjugated;

  SSM_DEVICE void operator()(Index i) const {
    const Index n = i / width, c = i % width;
    const Complex<T> f = conjugated ? conjugate(Complex<T>(factor(n))) : Complex<T>(factor(n));
    const Complex<T> scaled = f * Complex<T>{from(n, 0, c), from(n, 1, c)};
    to(n, 0, c) = scaled.re, to(n, 1, c) = scaled.im;
  }
};

/// Σ conj(B) ∂B̄ over the inputs: a block a mode.
template <class T>
struct InputFactorGradient {
  static constexpr int most_threads = 128;
  Array<const T, 3> B, dB_bar;
  Array<Complex<T>, 1> dfactor;
  Index width;

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<double> room = block.shared<double>(block.threads() / warp);
    const Index n = block.index();
    WideComplex sum(0.0);
    for (Index c = block.thread(); c < width; c += most_threads)
      sum +=
          conjugate(WideComplex{static_cast<double>(B(n, 0, c)), static_cast<double>(B(n, 1, c))}) *
          WideComplex{static_cast<double>(dB_bar(n, 0, c)), static_cast<double>(dB_bar(n, 1, c))};
    const double re = join_row(block, room, sum.re, most_threads, SumOf());
    const double im = join_row(block, room, sum.im, most_threads, SumOf());
    if (block.thread() == 0) dfactor(n) = {T(re), T(im)};
  }
};

/// A thread a number of C.
template <class T>
struct OutputRows {
  Array<const T, 3> C;
  Array<T, 2> rows;
  Index modes;

  SSM_DEVICE void operator()(Index i) const {
    const Index part = i % 2, n = i / 2 % modes, c = i / 2 / modes;
    rows(c, 2 * n + part) = (part == 0 ? T(2) : T(-2)) * C(c, n, part);
  }
};
template <class T>
struct OutputRowsBackward {
  Array<const T, 2> drows;
  Array<T, 3> dC;
  Index modes;

  SSM_DEVICE void operator()(Index i) const {
    const Index part = i % 2, n = i / 2 % modes, c = i / 2 / modes;
    dC(c, n, part) = (part == 0 ? T(2) : T(-2)) * drows(c, 2 * n + part);
  }
};

template <class T>
struct AddFeedthrough {
  using Value = T;
  Array<const T, 2> u;
  Array<const T, 1> D;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const { return y(r, c) + D(c) * u(r, c); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct FeedthroughTerm {
  using Value = T;
  Array<const T, 2> u, dy;

  SSM_DEVICE T operator()(Index r, Index c) const { return dy(r, c) * u(r, c); }
};

/// Steps in the order of time, those of all rows one after the other.
struct TimePlace {
  Index row, t, k, start, end;  ///< k: the sequence in its row, of steps [start, end)

  SSM_DEVICE TimePlace(const RowSequences& sequences, Index r)
      : row(r / sequences.length),
        t(r % sequences.length),
        k(sequences.before(t + 1)),
        start(sequences.start(k)),
        end(k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length) {}
};

template <class T>
struct AddNext {
  using Value = T;
  Array<const T, 3> x;
  Array<T, 3> y;
  RowSequences sequences;

  SSM_DEVICE T load(Index r, Index c) const {
    const TimePlace at(sequences, r);
    return y(at.row, at.t, c) + (at.t + 1 < at.end ? T(x(at.row, at.t + 1, c)) : T(0));
  }
  SSM_DEVICE void store(Index r, Index c, T value) const {
    y(r / sequences.length, r % sequences.length, c) = value;
  }
};
template <class T>
struct AddNextBackward {
  using Value = T;
  Array<const T, 3> dy;
  Array<T, 3> dx;
  RowSequences sequences;

  SSM_DEVICE T load(Index r, Index c) const {
    const TimePlace at(sequences, r);
    return at.t > at.start ? T(dy(at.row, at.t - 1, c)) : T(0);
  }
  SSM_DEVICE void store(Index r, Index c, T value) const {
    dx(r / sequences.length, r % sequences.length, c) = value;
  }
};

/// Where the last step of sequence s lies, as arrays number it; -1 where it has none.
struct LastStep {
  Index row, t;

  SSM_DEVICE LastStep(const RowSequences& sequences, Index s) : row(0), t(-1) {
    const bool packed = sequences.offsets != nullptr;
    const Index k = !packed ? 0 : sequences.reversed ? sequences.count - 1 - s : s;
    if (!packed) row = s;
    const Index end = k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length;
    if (end > sequences.start(k)) t = end - 1;
  }
};

/// A thread a sequence and channel.
template <class T>
struct AddReadout {
  Array<const Complex<T>, 2> C;
  Array<const Complex<T>, 3> x;
  Array<T, 3> y;
  RowSequences sequences;
  Index channels, modes;

  SSM_DEVICE void operator()(Index i) const {
    const Index s = i / channels, c = i % channels;
    const LastStep at(sequences, s);
    if (at.t < 0) return;
    T sum = 0;
    for (Index n = 0; n < modes; ++n) sum += real(Complex<T>(C(c, n)) * Complex<T>(x(s, c, n)));
    y(at.row, at.t, c) += T(2) * sum;
  }
};
/// A thread a mode.
template <class T>
struct AddReadoutBackward {
  Array<const Complex<T>, 2> C;
  Array<const Complex<T>, 3> x;
  Array<const T, 3> dy;
  Array<Complex<T>, 2> dC;
  Array<Complex<T>, 3> dx;
  RowSequences sequences;
  Index count, modes;

  SSM_DEVICE void operator()(Index i) const {
    const Index c = i / modes, n = i % modes;
    Complex<T> sum(T(0));
    for (Index s = 0; s < count; ++s) {
      const LastStep at(sequences, s);
      if (at.t < 0) continue;
      const T slope = T(2) * dy(at.row, at.t, c);
      if (dx.present) dx(s, c, n) += slope * conjugate(Complex<T>(C(c, n)));
      if (x.present) sum += slope * conjugate(Complex<T>(x(s, c, n)));
    }
    if (dC.present) dC(c, n) += sum;
  }
};

/// What the gradient of a is a sum of.
template <class T>
struct DecayTerm {
  using Value = Complex<T>;
  Array<const Value, 3> g, x;
  Array<const Value, 2> initial;
  RowSequences sequences;

  SSM_DEVICE Value operator()(Index r, Index c) const {
    const TimePlace at(sequences, r);
    Value before(T(0));
    if (at.t > at.start)
      before = x(at.row, at.t - 1, c);
    else if (initial.present)
      before = initial(sequences.number(at.row, at.k), c);
    return Value(g(at.row, at.t, c)) * conjugate(before);
  }
};

}  // namespace kernels

template <class T>
void sample_modes(const Cuda& backend, const SampleModesInputs<T, Device>& in,
                  const SampleModesOptions& options,
                  const std::type_identity_t<SampleModesOutputs<T, Device>>& out,
                  SampleModesScratch<T, Device>& scratch) {
  using namespace kernels;
  using K = Complex<T>;
  const char* function = "sample_modes";
  const auto extents = ssm::detail::check_sample_modes(function, in, options);
  ssm::detail::check_sampled_modes(function, out, extents);
  launch_elementwise(
      backend, function, extents[0] * extents[1],
      SampleModes<T>{Array<const T, 2>(in.log_decay), Array<const T, 2>(in.frequency),
                     Array<const T, 1>(in.log_delta), Array<const K, 2>(in.B),
                     Array<K, 2>(out.lambda), Array<T, 1>(out.delta), Array<K, 2>(out.B),
                     Array<K, 2>(out.a_bar), Array<K, 2>(out.b_bar), options.rate,
                     static_cast<double>(options.dss_length), options.method, extents[1]});
  scratch.lambda = out.lambda;
  scratch.delta = out.delta;
  scratch.extents = extents;
}

template <class T>
void sample_modes_backward(const Cuda& backend, const SampleModesInputs<T, Device>& in,
                           const SampleModesOptions& options,
                           const std::type_identity_t<SampleModesOutputGradients<T, Device>>& dout,
                           const std::type_identity_t<SampleModesInputGradients<T, Device>>& din,
                           SampleModesScratch<T, Device>& scratch) {
  using namespace kernels;
  using K = Complex<T>;
  const char* function = "sample_modes_backward";
  const auto extents = ssm::detail::check_sample_modes(function, in, options);
  ssm::detail::check_sampled_modes(function, dout, extents);
  ssm::detail::check_optional_shape(function, "the gradient of log_decay", din.log_decay, extents);
  ssm::detail::check_optional_shape(function, "the gradient of frequency", din.frequency, extents);
  ssm::detail::check_optional_shape(function, "the gradient of log_delta", din.log_delta,
                                    std::array<Index, 1>{extents[0]});
  ssm::detail::check_optional_shape(function, "the gradient of B", din.B, extents);
  if (!ssm::detail::same_extents(scratch.extents, extents))
    ssm::detail::throw_shape(
        function, "scratch", "of another call, " + ssm::detail::to_string(scratch.extents),
        "one that sample_modes filled with these inputs, " + ssm::detail::to_string(extents));
  launch_elementwise(
      backend, function, extents[0],
      SampleModesBackward<T>{
          Array<const T, 2>(in.log_decay), Array<const T, 2>(in.frequency),
          Array<const T, 1>(in.log_delta), Array<const K, 2>(in.B),
          Array<const K, 2>(scratch.lambda), Array<const T, 1>(scratch.delta),
          Array<const K, 2>(dout.lambda), Array<const T, 1>(dout.delta), Array<const K, 2>(dout.B),
          Array<const K, 2>(dout.a_bar), Array<const K, 2>(dout.b_bar), Array<T, 2>(din.log_decay),
          Array<T, 2>(din.frequency), Array<T, 1>(din.log_delta), Array<K, 2>(din.B), options.rate,
          static_cast<double>(options.dss_length), options.method, extents[1]});
}

template <class T>
void input_matrix(const Cuda& backend, const InputMatrixInputs<T, Device>& inputs,
                  const InputMatrixOptions&,
                  const std::type_identity_t<InputMatrixOutputs<T, Device>>& outputs,
                  InputMatrixScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "input_matrix";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  ssm::detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  ssm::detail::check_shape(function, "B_bar", outputs.B_bar, B.extents());
  launch_elementwise(backend, function, modes * width,
                     ScaleInputRows<T>{Array<const Complex<T>, 1>(factor), Array<const T, 3>(B),
                                       Array<T, 3>(outputs.B_bar), width, false});
}

template <class T>
void input_matrix_backward(const Cuda& backend, const InputMatrixInputs<T, Device>& inputs,
                           const InputMatrixOptions&,
                           const std::type_identity_t<InputMatrixOutputGradients<T, Device>>& dout,
                           const std::type_identity_t<InputMatrixInputGradients<T, Device>>& din,
                           InputMatrixScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "input_matrix_backward";
  const auto& [factor, B] = inputs;
  const Index modes = factor.extent(0), width = B.extent(2);
  ssm::detail::check_shape(function, "B", B, std::array<Index, 3>{modes, 2, width});
  ssm::detail::check_shape(function, "the gradient of B_bar", dout.B_bar, B.extents());
  ssm::detail::check_shape(function, "the gradient of B", din.B, B.extents());
  ssm::detail::check_shape(function, "the gradient of factor", din.factor, factor.extents());
  using Kernel = InputFactorGradient<T>;
  const Array<const T, 3> slope(dout.B_bar);
  launch(backend, function, modes, Kernel::most_threads,
         shared_size<double>(Kernel::most_threads / warp),
         Kernel{Array<const T, 3>(B), slope, Array<Complex<T>, 1>(din.factor), width});
  launch_elementwise(backend, function, modes * width,
                     ScaleInputRows<T>{Array<const Complex<T>, 1>(factor), slope,
                                       Array<T, 3>(din.B), width, true});
}

template <class T>
void output_matrix(const Cuda& backend, const OutputMatrixInputs<T, Device>& inputs,
                   const OutputMatrixOptions&,
                   const std::type_identity_t<OutputMatrixOutputs<T, Device>>& outputs,
                   OutputMatrixScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "output_matrix";
  const auto& C = inputs.C;
  const Index width = C.extent(0), modes = C.extent(1);
  ssm::detail::check_shape(function, "C", C, std::array<Index, 3>{width, modes, 2});
  ssm::detail::check_shape(function, "rows", outputs.rows, std::array<Index, 2>{width, 2 * modes});
  launch_elementwise(backend, function, C.size(),
                     OutputRows<T>{Array<const T, 3>(C), Array<T, 2>(outputs.rows), modes});
}

template <class T>
void output_matrix_backward(
    const Cuda& backend, const OutputMatrixInputs<T, Device>& inputs, const OutputMatrixOptions&,
    const std::type_identity_t<OutputMatrixOutputGradients<T, Device>>& dout,
    const std::type_identity_t<OutputMatrixInputGradients<T, Device>>& din,
    OutputMatrixScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "output_matrix_backward";
  const Index width = inputs.C.extent(0), modes = inputs.C.extent(1);
  ssm::detail::check_shape(function, "C", din.C, std::array<Index, 3>{width, modes, 2});
  ssm::detail::check_shape(function, "rows", dout.rows, std::array<Index, 2>{width, 2 * modes});
  launch_elementwise(
      backend, function, din.C.size(),
      OutputRowsBackward<T>{Array<const T, 2>(dout.rows), Array<T, 3>(din.C), modes});
}

template <class T>
void feedthrough(const Cuda& backend, const FeedthroughInputs<T, Device>& inputs,
                 const FeedthroughOptions&,
                 const std::type_identity_t<FeedthroughOutputs<T, Device>>& outputs,
                 FeedthroughScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "feedthrough";
  const auto& [u, D] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_rows(function, "u", u, u.extents());
  ssm::detail::check_rows(function, "D", D, std::array<Index, 1>{u.extent(1)});
  ssm::detail::check_output_rows(function, "y", y, u.extents());
  launch_rows(backend, function, y.extent(0), y.extent(1), false,
              AddFeedthrough<T>{Array<const T, 2>(u), Array<const T, 1>(D), Array<T, 2>(y)});
}

template <class T>
void feedthrough_backward(const Cuda& backend, const FeedthroughInputs<T, Device>& inputs,
                          const FeedthroughOptions&,
                          const std::type_identity_t<FeedthroughOutputGradients<T, Device>>& dout,
                          const std::type_identity_t<FeedthroughInputGradients<T, Device>>& din,
                          FeedthroughScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "feedthrough_backward";
  const auto& [u, D] = inputs;
  const auto& dy = dout.y;
  const Index rows = u.extent(0), width = u.extent(1);
  ssm::detail::check_rows(function, "u", u, u.extents());
  ssm::detail::check_rows(function, "D", D, std::array<Index, 1>{width});
  ssm::detail::check_rows(function, "the gradient of y", dy, u.extents());
  ssm::detail::check_output_rows(function, "the gradient of u", din.u, u.extents());
  ssm::detail::check_shape(function, "the gradient of D", din.D, std::array<Index, 1>{width});
  launch_column_sums(backend, function, rows, width,
                     FeedthroughTerm<T>{Array<const T, 2>(u), Array<const T, 2>(dy)},
                     Array<T, 1>(din.D), scratch.partials);
  launch_rows(backend, function, rows, width, false,
              AddFeedthrough<T>{Array<const T, 2>(dy), Array<const T, 1>(D), Array<T, 2>(din.u)});
}

template <class T>
void add_next(const Cuda& backend, const AddNextInputs<T, Device>& inputs, const AddNextOptions&,
              const std::type_identity_t<AddNextOutputs<T, Device>>& outputs,
              AddNextScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "add_next";
  const auto& [x, time] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_shape(function, "y", y, x.extents());
  ssm::detail::check_sequences(function, time, x.extent(0), x.extent(1));
  launch_rows(backend, function, x.extent(0) * x.extent(1), x.extent(2), false,
              AddNext<T>{Array<const T, 3>(x, time), Array<T, 3>(y, time),
                         RowSequences(time, x.extent(1))});
}

template <class T>
void add_next_backward(const Cuda& backend, const AddNextInputs<T, Device>& inputs,
                       const AddNextOptions&,
                       const std::type_identity_t<AddNextOutputGradients<T, Device>>& dout,
                       const std::type_identity_t<AddNextInputGradients<T, Device>>& din,
                       AddNextScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "add_next_backward";
  const auto& [x, time] = inputs;
  ssm::detail::check_shape(function, "the gradient of y", dout.y, x.extents());
  ssm::detail::check_shape(function, "the gradient of x", din.x, x.extents());
  ssm::detail::check_sequences(function, time, x.extent(0), x.extent(1));
  launch_rows(backend, function, x.extent(0) * x.extent(1), x.extent(2), false,
              AddNextBackward<T>{Array<const T, 3>(dout.y, time), Array<T, 3>(din.x, time),
                                 RowSequences(time, x.extent(1))});
}

namespace detail {

template <class T, class Output>
void check_device_readout(const char* function, const AddReadoutInputs<T, Device>& in,
                          const char* argument, const Output& y) {
  check_given(function, "C", in.C, "(channels, state/2)");
  check_given(function, argument, y, "(batch, length, channels)");
  check_shape(function, argument, y, std::array{y.extent(0), y.extent(1), in.C.extent(0)});
  check_sequences(function, in.sequences, y.extent(0), y.extent(1));
  check_optional_shape(function, "x", in.x,
                       std::array{in.sequences.count(y.extent(0)), in.C.extent(0), in.C.extent(1)});
}

}  // namespace detail

template <class T>
void add_readout(const Cuda& backend, const AddReadoutInputs<T, Device>& inputs,
                 const AddReadoutOptions&,
                 const std::type_identity_t<AddReadoutOutputs<T, Device>>& outputs,
                 AddReadoutScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "add_readout";
  const auto& [C, x, time] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_device_readout(function, inputs, "y", y);
  if (!x) return;
  launch_elementwise(backend, function, x.extent(0) * x.extent(1),
                     AddReadout<T>{Array<const Complex<T>, 2>(C), Array<const Complex<T>, 3>(x),
                                   Array<T, 3>(y, time), RowSequences(time, y.extent(1)),
                                   C.extent(0), C.extent(1)});
}

template <class T>
void add_readout_backward(const Cuda& backend, const AddReadoutInputs<T, Device>& inputs,
                          const AddReadoutOptions&,
                          const std::type_identity_t<AddReadoutOutputGradients<T, Device>>& dout,
                          const std::type_identity_t<AddReadoutInputGradients<T, Device>>& din,
                          AddReadoutScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "add_readout_backward";
  const auto& [C, x, time] = inputs;
  const auto& dy = dout.y;
  ssm::detail::check_device_readout(function, inputs, "the gradient of y", dy);
  const Index count = time.count(dy.extent(0));
  ssm::detail::check_optional_shape(function, "the gradient of C", din.C, C.extents());
  ssm::detail::check_optional_shape(function, "the gradient of x", din.x,
                                    std::array{count, C.extent(0), C.extent(1)});
  launch_elementwise(
      backend, function, C.size(),
      AddReadoutBackward<T>{Array<const Complex<T>, 2>(C), Array<const Complex<T>, 3>(x),
                            Array<const T, 3>(dy, time), Array<Complex<T>, 2>(din.C),
                            Array<Complex<T>, 3>(din.x), RowSequences(time, dy.extent(1)), count,
                            C.extent(1)});
}

template <class T>
void decay_gradient(const Cuda& backend, const DecayGradientInputs<T, Device>& inputs,
                    const DecayGradientOptions&,
                    const std::type_identity_t<DecayGradientOutputs<T, Device>>& outputs,
                    DecayGradientScratch<T, Device>& scratch) {
  using namespace kernels;
  using K = Complex<T>;
  const char* function = "decay_gradient";
  const auto& [g, x, initial, time] = inputs;
  ssm::detail::check_given(function, "g", g, "(batch, length, channels)");
  const Index batch = g.extent(0), length = g.extent(1), channels = g.extent(2);
  ssm::detail::check_sequences(function, time, batch, length);
  ssm::detail::check_shape(function, "x", x, g.extents());
  ssm::detail::check_optional_shape(function, "initial_state", initial,
                                    std::array<Index, 2>{time.count(batch), channels});
  ssm::detail::check_shape(function, "the gradient of a", outputs.a,
                           std::array<Index, 1>{channels});
  launch_column_sums(backend, function, batch * length, channels,
                     DecayTerm<T>{Array<const K, 3>(g, time), Array<const K, 3>(x, time),
                                  Array<const K, 2>(initial), RowSequences(time, length)},
                     Array<K, 1>(outputs.a), scratch.partials);
}

}  // namespace ssm
