#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <string_view>
#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/layers/detail/dss_scale.hpp"
#include "ssm/layers/detail/step_checks.hpp"
#include "ssm/layers/s4d.hpp"

namespace ssm {

/// What s4d_step needs beside the weights: the options, and the sampled modes of the weights that
/// it met last.
template <class T>
class S4dStepScratch {
 public:
  /// Of the options those count that concern one step: the method, the rate, DSS.
  /// @throws ShapeError, and DomainError for weights of two directions, a rate that is not above 0,
  ///   a method that changes C or D, or dss by another method, without a length or of modes that do
  ///   not decay
  explicit S4dStepScratch(const S4dWeights<T>& weights, const S4dOptions<T>& options = {})
      : shape_(detail::check_s4d("S4dStepScratch", weights)),
        method_(options.method),
        rate_(options.rate),
        dss_length_(options.dss ? options.dss_length : 0),
        log_decay_(weights.log_decay),
        frequency_(weights.frequency),
        log_delta_(weights.log_delta),
        B_(weights.B),
        a_bar_(weights.log_decay.extents()),
        b_bar_(weights.log_decay.extents()) {
    constexpr std::string_view function = "S4dStepScratch";
    detail::check_one_direction(function, shape_);
    detail::check_keeps_output(function, method_);
    detail::check_rate(function, options);
    detail::check_dss_options(function, options, true);
    if (options.dss) {  // whose modes must decay
      S4dWorkspace<T> modes;
      detail::load_s4d(weights, options, dss_length_, modes);
    }
    sample();
  }

  /// Samples the modes again unless the weights, of the same shape, are those of the last step.
  void refresh(const S4dWeights<T>& weights) noexcept {
    const auto same = [](const auto& a, const auto& b) {
      return std::equal(a.begin(), a.end(), b.begin());
    };
    if (same(weights.log_delta, log_delta_) && same(weights.log_decay, log_decay_) &&
        same(weights.frequency, frequency_) && same(weights.B, B_))
      return;
    const auto copy = [](const auto& from, auto& to) {
      std::copy(from.begin(), from.end(), to.begin());
    };
    copy(weights.log_delta, log_delta_);
    copy(weights.log_decay, log_decay_);
    copy(weights.frequency, frequency_);
    copy(weights.B, B_);
    sample();
  }

  [[nodiscard]] const S4dShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const Tensor<std::complex<T>, 2>& a_bar() const noexcept { return a_bar_; }
  [[nodiscard]] const Tensor<std::complex<T>, 2>& b_bar() const noexcept { return b_bar_; }

 private:
  void sample() noexcept {
    const View<const std::complex<T>, 2> B = detail::as_complex(std::as_const(B_).view());
    for (Index c = 0; c < log_delta_.extent(0); ++c) {
      const T delta = rate_ * std::exp(log_delta_(c));
      for (Index n = 0; n < log_decay_.extent(1); ++n) {
        const std::complex<T> lambda(-std::exp(log_decay_(c, n)), frequency_(c, n));
        const auto mode = discretize(method_, lambda, delta);
        a_bar_(c, n) = mode.a_bar;
        b_bar_(c, n) = mode.b_bar_factor * B(c, n);
        if (dss_length_ > 0)
          b_bar_(c, n) *= std::complex<T>(detail::dss_factor(
              std::complex<double>(lambda), static_cast<double>(delta), dss_length_));
      }
    }
  }

  S4dShape shape_;
  Discretization method_;
  T rate_;
  Index dss_length_;  // 0: not of DSS
  Tensor<T, 2> log_decay_, frequency_;
  Tensor<T, 1> log_delta_;
  Tensor<T, 3> B_;
  Tensor<std::complex<T>, 2> a_bar_, b_bar_;  // (width, state/2)
};

/// One step on the calling thread, `state` moved on in place; the same as s4d_forward of length 1
/// with the options of the scratch. Nothing is allocated; FlushDenormals keeps a state that decays
/// in silence from slowing it down. Modes are sampled when the weights differ from those of the
/// last step; that apart a step costs width · state multiply-adds. A shape that does not fit ends
/// the program with a ShapeError.
///
/// @param input, output (batch, width), may be the same memory
/// @param scratch made for weights of this shape, of any values
template <class T>
void s4d_step(const S4dWeights<T>& weights, const View<const T, 2>& input, S4dState<T>& state,
              const View<T, 2>& output, S4dStepScratch<T>& scratch) noexcept {
  const S4dShape s = weights.shape();
  const Index batch = input.extent(0), N = s.modes();
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "s4d_step";
    detail::check_s4d(function, weights);
    detail::check_step(function, s, scratch.shape(), input, state.x, output,
                       std::array<Index, 3>{batch, s.width, N});
  });
  scratch.refresh(weights);
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < s.width; ++c) {
      const T u = input(b, c);
      T* x = reinterpret_cast<T*>(state.x.data() + (b * s.width + c) * N);
      const T* a = reinterpret_cast<const T*>(scratch.a_bar().data() + c * N);
      const T* in = reinterpret_cast<const T*>(scratch.b_bar().data() + c * N);
      const T* out = weights.C.data() + 2 * c * N;
      T sum = 0;
      for (Index i = 0; i < 2 * N; i += 2) {
        const T re = a[i] * x[i] - a[i + 1] * x[i + 1] + in[i] * u;
        const T im = a[i] * x[i + 1] + a[i + 1] * x[i] + in[i + 1] * u;
        sum += out[i] * re - out[i + 1] * im;
        x[i] = re;
        x[i + 1] = im;
      }
      output(b, c) = T(2) * sum + weights.D(c) * u;
    }
}

}  // namespace ssm
