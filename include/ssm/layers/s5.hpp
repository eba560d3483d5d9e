#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/mode_slopes.hpp"
#include "ssm/layers/detail/step_checks.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/s5_weights.hpp"
#include "ssm/scan/linear_scan.hpp"

namespace ssm {

/// The state of an S5 layer. A plain value; zero when made.
template <class T>
struct S5State {
  Tensor<std::complex<T>, 2> x;  ///< (batch, state/2), of packed sequences one each

  S5State() = default;
  S5State(const S5Shape& s, Index batch) : x({batch, s.modes()}) {}
};

template <class T>
struct S5Options {
  Discretization method = Discretization::zero_order_hold;
  T rate = T(1);  ///< Δ ← rate · Δ: 2 for a sequence sampled half as often as in training
  bool reversed = false;              ///< time runs from the last step to the first
  View<const Index, 1> offsets = {};  ///< (sequences + 1), optional: packed sequences, batch 1
};

/// What forward leaves for backward.
template <class T>
struct S5Saved {
  Tensor<std::complex<T>, 3> x;       ///< (batch, length, state/2)
  Tensor<std::complex<T>, 3> x_back;  ///< as x, from the end
};

/// Scratch of an S5 layer, grown to its largest call.
template <class T>
struct S5Workspace {
  Tensor<std::complex<T>, 1> a_bar, factor;  ///< (state/2): ā, and B̄ = factor · B
  Tensor<T, 2> C, C_back, dC;                ///< (width, state): [2 Re C, −2 Im C], interleaved
  Tensor<std::complex<T>, 3> dx, dx_back;    ///< (batch, length, state/2)
  Tensor<T, 2> dB;                           ///< (state, width): of B̄
  Tensor<std::complex<T>, 2> partials;       ///< (pieces, state/2)
  Tensor<T, 2> D_partials;                   ///< (pieces, width)
  LinearScanWorkspace<std::complex<T>> scan;
  LinearWorkspace<T> linear;
};

namespace detail {

template <class T>
S5Shape check_s5(std::string_view function, const S5Weights<T>& w) {
  const S5Shape s = w.shape();
  check_shape(function, "frequency", w.frequency, std::array<Index, 1>{s.modes()});
  check_shape(function, "log_delta", w.log_delta, std::array<Index, 1>{s.modes()});
  check_shape(function, "B", w.B, std::array<Index, 3>{s.modes(), 2, s.width});
  check_shape(function, "C", w.C, std::array<Index, 3>{s.width, s.modes(), 2});
  if (s.bidirectional) check_shape(function, "C_back", w.C_back, w.C.extents());
  check_shape(function, "D", w.D, std::array<Index, 1>{s.width});
  return s;
}

template <class T>
void check_s5_options(std::string_view function, const S5Options<T>& options) {
  check_keeps_output(function, options.method);
  if (!(options.rate > T(0)))
    throw_domain(function, "rate", std::to_string(options.rate), "above 0");
}

inline void check_no_s5_state(std::string_view function, const S5Shape& s,
                              std::string_view argument, const void* state) {
  if (s.bidirectional && state != nullptr)
    throw_domain(function, argument, "given", "no state, as a pass from the end has none");
}

/// λ and Δ of one mode, in double.
template <class T>
std::pair<std::complex<double>, double> s5_mode(const S5Weights<T>& w, T rate, Index n) noexcept {
  return {{-std::exp(static_cast<double>(w.log_decay(n))), static_cast<double>(w.frequency(n))},
          static_cast<double>(rate) * std::exp(static_cast<double>(w.log_delta(n)))};
}

template <class T>
void load_s5(const S5Weights<T>& w, const S5Options<T>& options, S5Workspace<T>& to) {
  const S5Shape s = w.shape();
  to.a_bar.resize({s.modes()});
  to.factor.resize({s.modes()});
  const auto interleave = [&](const Tensor<T, 3>& C, Tensor<T, 2>& rows) {
    rows.resize({s.width, s.state});
    for (Index i = 0; i < rows.size(); ++i)
      rows.data()[i] = (i % 2 == 0 ? T(2) : T(-2)) * C.data()[i];
  };
  interleave(w.C, to.C);
  if (s.bidirectional) interleave(w.C_back, to.C_back);
  for (Index n = 0; n < s.modes(); ++n) {
    const auto [lambda, delta] = s5_mode(w, options.rate, n);
    const auto mode = discretize(options.method, lambda, delta);
    to.a_bar(n) = std::complex<T>(mode.a_bar);
    to.factor(n) = std::complex<T>(mode.b_bar_factor);
  }
}

/// Rows of complex numbers as rows of twice as many real ones.
template <class K, std::size_t Rank>
[[nodiscard]] auto as_real_rows(const View<K, Rank>& x, Index rows) noexcept {
  using T = Real<std::remove_const_t<K>>;
  using Part = std::conditional_t<std::is_const_v<K>, const T, T>;
  return View<Part, 2>(reinterpret_cast<Part*>(x.data()), {rows, 2 * x.extent(Rank - 1)});
}

/// x ← factor x, row by row; or the conjugate of factor.
template <class T>
void scale_modes(const Cpu& backend, const Tensor<std::complex<T>, 1>& factor, bool conjugate,
                 const View<std::complex<T>, 3>& x) {
  const Index modes = factor.size(), rows = modes > 0 ? x.size() / modes : 0;
  const T sign = conjugate ? T(-1) : T(1);
  const Pieces pieces(rows, 64);
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r) {
      T* row = reinterpret_cast<T*>(x.data() + r * modes);
      for (Index n = 0; n < modes; ++n) {
        const T re = factor(n).real(), im = sign * factor(n).imag(), a = row[2 * n];
        row[2 * n] = re * a - im * row[2 * n + 1];
        row[2 * n + 1] = re * row[2 * n + 1] + im * a;
      }
    }
  });
}

template <class T>
LinearScanInputs<std::complex<T>> s5_scan_inputs(const S5Workspace<T>& w,
                                                 const View<const std::complex<T>, 3>& b,
                                                 const S5State<T>* initial,
                                                 const View<const Index, 1>& offsets) {
  return {View<const std::complex<T>, 3>(w.a_bar.data(), b.extents(), {0, 0, 1}), b,
          initial ? initial->x.view() : View<const std::complex<T>, 2>(), offsets};
}

}  // namespace detail

/// The S5 layer (Smith, Warrington & Linderman 2023, section 3): one diagonal system with
/// `width` inputs and outputs,
///
///   x_t = Λ̄ x_{t−1} + B̄ u_t,  y_t = 2 Re(C x_t) + D u_t,
///
/// with a Δ for every state, Λ̄ and B̄ from Λ and B by any method. A bidirectional layer adds
/// 2 Re(C_back x′_t) of the states x′_t = Λ̄ x′_{t+1} + B̄ u_t that run the other way. There is one
/// form, the scan: with every input in every state there is no kernel to convolve with that would
/// be cheaper.
///
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @param initial (batch, state/2), null: a state of zeros; final null: not wanted
/// @throws ShapeError, and DomainError for a rate that is not above 0, a state of a bidirectional
///   layer, or offsets that run backward or past the end
/// Cost per step and direction: 2 · width · state multiply-adds, and a linear scan of state/2
/// complex channels, which runs in parallel over time; the same bits for every number of threads.
template <class T>
void s5_forward(const Cpu& backend, const S5Weights<T>& weights, const View<const T, 3>& input,
                const S5State<T>* initial, const View<T, 3>& output, S5State<T>* final,
                const S5Options<T>& options, S5Saved<T>& saved, S5Workspace<T>& workspace) {
  constexpr const char* function = "s5_forward";
  const S5Shape s = detail::check_s5(function, weights);
  detail::check_s5_options(function, options);
  const Index batch = input.extent(0), length = input.extent(1);
  const std::array<Index, 3> extents{batch, length, s.width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "output", output, extents);
  const auto u = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  const Index rows = u.extent(0);
  detail::check_no_s5_state(function, s, "initial", initial);
  detail::check_no_s5_state(function, s, "final", final);
  detail::load_s5(weights, options, workspace);
  saved.x.resize({batch, length, s.modes()});
  if (options.offsets) detail::check_offsets(function, options.offsets, batch, length);
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : batch;
  if (final) final->x.resize({sequences, s.modes()});
  const View<std::complex<T>, 3> x = saved.x;
  linear_forward<T>(backend, u, View<const T, 2>(weights.B.data(), {s.state, s.width}), {},
                    detail::as_real_rows(x, rows));
  detail::scale_modes<T>(backend, workspace.factor, false, x);
  if (s.bidirectional) saved.x_back = saved.x;  // B̄ u of both
  const auto run = [&](const View<std::complex<T>, 3>& states, bool reversed, const Tensor<T, 2>& C,
                       Write write) {
    linear_scan<std::complex<T>>(
        backend, detail::s5_scan_inputs<T>(workspace, states, initial, options.offsets), {reversed},
        {states, final ? final->x.view() : View<std::complex<T>, 2>()}, workspace.scan);
    linear_forward<T>(backend, detail::as_real_rows(View<const std::complex<T>, 3>(states), rows),
                      C, {}, y, write);
  };
  run(x, options.reversed, workspace.C, Write::overwrite);
  if (s.bidirectional) run(saved.x_back, !options.reversed, workspace.C_back, Write::accumulate);
  detail::for_row_vectors<T>(backend, rows, s.width, [&](Index r, Index i, Index n) {
    using Vec = detail::Vec<T>;
    fma(Vec::load(weights.D.data() + i, n), Vec::load(detail::at(u, r, i), n),
        Vec::load(detail::at(y, r, i), n))
        .store(detail::at(y, r, i), n);
  });
}

/// Gradients of s5_forward: of every weight and the input, overwritten, and of the initial state
/// unless `dinitial` is null. `dfinal` is the gradient of the final state, null: zero. The other
/// arguments are those of the forward call.
/// Cost: about twice s5_forward.
template <class T>
void s5_backward(const Cpu& backend, const S5Weights<T>& weights, const View<const T, 3>& input,
                 const S5State<T>* initial, const S5Options<T>& options, const S5Saved<T>& saved,
                 const View<const T, 3>& doutput, const S5State<T>* dfinal, S5Weights<T>& gradients,
                 const View<T, 3>& dinput, S5State<T>* dinitial, S5Workspace<T>& workspace) {
  using Complex = std::complex<T>;
  using Wide = std::complex<double>;
  constexpr const char* function = "s5_backward";
  const S5Shape s = detail::check_s5(function, weights);
  detail::check_s5_options(function, options);
  const Index batch = input.extent(0), length = input.extent(1);
  const std::array<Index, 3> extents{batch, length, s.width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "the gradient of output", doutput, extents);
  detail::check_shape(function, "the gradient of input", dinput, extents);
  detail::check_shape(function, "saved.x", saved.x, std::array<Index, 3>{batch, length, s.modes()});
  const auto u = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "the gradient of output", doutput);
  const auto du = detail::merge_rows(function, "the gradient of input", dinput);
  const Index rows = u.extent(0);
  detail::check_no_s5_state(function, s, "initial", initial);
  detail::check_no_s5_state(function, s, "the gradient of final", dfinal);
  detail::check_no_s5_state(function, s, "the gradient of initial", dinitial);
  if (s.bidirectional)
    detail::check_shape(function, "saved.x_back", saved.x_back, saved.x.extents());
  if (gradients.shape() != s) gradients = S5Weights<T>(s);
  if (options.offsets) detail::check_offsets(function, options.offsets, batch, length);
  const Index sequences = options.offsets ? options.offsets.extent(0) - 1 : batch;
  if (dinitial) dinitial->x.resize({sequences, s.modes()});
  S5Workspace<T>& w = workspace;
  detail::load_s5(weights, options, w);
  w.dx.resize(saved.x.extents());
  w.dC.resize(w.C.extents());
  w.dB.resize({s.state, s.width});
  const View<Complex, 3> dx = w.dx;
  const auto dx_rows = detail::as_real_rows(dx, rows);

  // What one direction gives: ∂C, ∂B̄u in dx_d, and Σ_t g_t conj(x_{t∓1}) added to w.partials.
  const detail::Pieces pieces(rows, 64);
  w.partials.resize({pieces.pieces, s.modes()});
  w.partials.fill(Complex(0));
  const auto turn_back = [&](const Tensor<Complex, 3>& x, bool reversed, const Tensor<T, 2>& C,
                             Tensor<T, 3>& dC, const View<Complex, 3>& dx_d) {
    const auto g_rows = detail::as_real_rows(dx_d, rows);
    linear_backward<T>(backend, detail::as_real_rows(x.view(), rows), C, dy,
                       {.x = g_rows, .weight = w.dC, .bias = {}}, w.linear);
    for (Index i = 0; i < w.dC.size(); ++i)
      dC.data()[i] = (i % 2 == 0 ? T(2) : T(-2)) * w.dC.data()[i];
    // The b of the scan is not read backward: x stands in for it.
    linear_scan_backward<Complex>(
        backend, detail::s5_scan_inputs<T>(w, x, initial, options.offsets), {reversed}, x,
        {dx_d, dfinal ? dfinal->x.view() : View<const Complex, 2>()},
        {{}, dx_d, dinitial ? dinitial->x.view() : View<Complex, 2>()}, w.scan);
    parallel_for(backend, pieces.pieces, [&](Index piece) {
      T* const sum = reinterpret_cast<T*>(w.partials.data() + piece * s.modes());
      const auto start = [&](Index sequence) {
        return options.offsets ? options.offsets(sequence) : sequence * length;
      };
      Index sequence = 0;
      for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r) {
        while (start(sequence + 1) <= r) ++sequence;
        const Index before = reversed ? r + 1 : r - 1;
        const bool inside = before >= start(sequence) && before < start(sequence + 1);
        if (!inside && !initial) continue;
        const T* from = reinterpret_cast<const T*>(inside ? x.data() + before * s.modes()
                                                          : &initial->x(sequence, 0));
        const T* g = &g_rows(r, 0);
        for (Index i = 0; i < s.state; i += 2) {
          sum[i] += g[i] * from[i] + g[i + 1] * from[i + 1];
          sum[i + 1] += g[i + 1] * from[i] - g[i] * from[i + 1];
        }
      }
    });
  };
  turn_back(saved.x, options.reversed, w.C, gradients.C, dx);
  if (s.bidirectional) {
    w.dx_back.resize(saved.x.extents());
    turn_back(saved.x_back, !options.reversed, w.C_back, gradients.C_back, w.dx_back);
    detail::for_row_vectors<T>(backend, rows, s.state, [&](Index r, Index i, Index n) {
      using Vec = detail::Vec<T>;
      T* const sum = &dx_rows(r, i);
      const T* const other = reinterpret_cast<const T*>(w.dx_back.data()) + r * s.state + i;
      (Vec::load(sum, n) + Vec::load(other, n)).store(sum, n);
    });
  }

  // ∂D = Σ_t ∂y_t u_t, over fixed pieces of the rows.
  w.D_partials.resize({pieces.pieces, s.width});
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    T* const sum = w.D_partials.data() + piece * s.width;
    std::fill_n(sum, s.width, T(0));
    for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r) {
      const T *dy_row = detail::at(dy, r, 0), *u_row = detail::at(u, r, 0);
      for (Index c = 0; c < s.width; ++c) sum[c] += dy_row[c] * u_row[c];
    }
  });
  gradients.D.fill(T(0));
  for (Index piece = 0; piece < pieces.pieces; ++piece)
    for (Index c = 0; c < s.width; ++c) gradients.D(c) += w.D_partials(piece, c);

  const View<const T, 2> B(weights.B.data(), {s.state, s.width});
  linear_backward<T>(backend, u, B, dx_rows, {.x = {}, .weight = w.dB, .bias = {}}, w.linear);
  for (Index n = 0; n < s.modes(); ++n) {
    // p_k stands for the conjugate of the gradient by k: the loss moves by Re(p_k dk).
    Wide p_a = 0, p_factor = 0;
    for (Index piece = 0; piece < pieces.pieces; ++piece)
      p_a += std::conj(Wide(w.partials(piece, n)));
    for (Index c = 0; c < s.width; ++c) {
      const Complex by_B_bar(w.dB(2 * n, c), w.dB(2 * n + 1, c));
      const Complex by_B = std::conj(w.factor(n)) * by_B_bar;
      p_factor += std::conj(Wide(by_B_bar)) * Wide(weights.B(n, 0, c), weights.B(n, 1, c));
      gradients.B(n, 0, c) = by_B.real();
      gradients.B(n, 1, c) = by_B.imag();
    }
    const auto [lambda, delta] = detail::s5_mode(weights, options.rate, n);
    const auto slopes = discretize_slopes(options.method, lambda, delta);
    const Wide p_lambda = p_a * slopes.a_by_lambda + p_factor * slopes.b_by_lambda;
    const double by_delta = (p_a * slopes.a_by_delta + p_factor * slopes.b_by_delta).real();
    gradients.log_decay(n) = static_cast<T>(p_lambda.real() * lambda.real());
    gradients.frequency(n) = static_cast<T>(-p_lambda.imag());
    gradients.log_delta(n) = static_cast<T>(by_delta * delta);
  }

  detail::scale_modes<T>(backend, w.factor, true, dx);
  linear_backward<T>(backend, u, B, dx_rows, {.x = du, .weight = {}, .bias = {}}, w.linear);
  detail::for_row_vectors<T>(backend, rows, s.width, [&](Index r, Index i, Index n) {
    using Vec = detail::Vec<T>;
    fma(Vec::load(weights.D.data() + i, n), Vec::load(detail::at(dy, r, i), n),
        Vec::load(detail::at(du, r, i), n))
        .store(detail::at(du, r, i), n);
  });
}

/// What s5_step needs beside the weights: the options and room.
template <class T>
class S5StepScratch {
 public:
  /// Of the options those count that concern one step: the method and the rate.
  /// @throws ShapeError, and DomainError for weights of two directions, time that runs backward, a
  ///   rate that is not above 0 or a method that changes C or D
  explicit S5StepScratch(const S5Weights<T>& weights, const S5Options<T>& options = {})
      : shape_(detail::check_s5("S5StepScratch", weights)),
        method_(options.method),
        rate_(options.rate),
        states_({shape_.state}) {
    detail::check_s5_options("S5StepScratch", options);
    detail::check_one_direction("S5StepScratch", shape_);
    if (options.reversed)
      detail::throw_domain("S5StepScratch", "reversed", "true",
                           "false, as a pass from the end has no step");
  }

  [[nodiscard]] const S5Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] Discretization method() const noexcept { return method_; }
  [[nodiscard]] T rate() const noexcept { return rate_; }
  [[nodiscard]] T* states() noexcept { return states_.data(); }

 private:
  S5Shape shape_;
  Discretization method_;
  T rate_;
  Tensor<T, 1> states_;  // (state): B u, then [2 Re x, −2 Im x]
};

/// One step on the calling thread, `state` moved on in place; the same as s5_forward of length 1
/// with the options of the scratch, and as cheap with new weights as with old. Nothing is
/// allocated; FlushDenormals keeps a state that decays in silence from slowing it down. A shape
/// that does not fit ends the program with a ShapeError.
///
/// @param input, output (batch, width), rows contiguous, not the same memory
/// @param scratch made for weights of this shape, of any values
template <class T>
void s5_step(const S5Weights<T>& weights, const View<const T, 2>& input, S5State<T>& state,
             const View<T, 2>& output, S5StepScratch<T>& scratch) noexcept {
  const S5Shape s = weights.shape();
  const Index batch = input.extent(0);
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "s5_step";
    detail::check_s5(function, weights);
    detail::check_step(function, s, scratch.shape(), input, state.x, output,
                       std::array<Index, 2>{batch, s.modes()});
    detail::check_adjacent(function, "input", input);
    detail::check_adjacent(function, "output", output);
  });
  const View<const T, 2> B(weights.B.data(), {s.state, s.width});
  const View<const T, 2> C(weights.C.data(), {s.width, s.state});
  T* const states = scratch.states();
  for (Index b = 0; b < batch; ++b) {
    const T* const u = detail::at(input, b, 0);
    detail::multiply_vector<T>(B, u, states);
    for (Index n = 0; n < s.modes(); ++n) {
      const auto [lambda, delta] = detail::s5_mode(weights, scratch.rate(), n);
      const auto mode = discretize(scratch.method(), lambda, delta);
      std::complex<T>& x = state.x(b, n);
      x = std::complex<T>(mode.a_bar) * x +
          std::complex<T>(mode.b_bar_factor) * std::complex<T>(states[2 * n], states[2 * n + 1]);
      states[2 * n] = T(2) * x.real();
      states[2 * n + 1] = T(-2) * x.imag();
    }
    T* const y = detail::at(output, b, 0);
    detail::multiply_vector<T>(C, states, y);
    for (Index c = 0; c < s.width; ++c) y[c] += weights.D(c) * u[c];
  }
}

}  // namespace ssm
