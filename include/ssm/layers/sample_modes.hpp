#pragma once

#include <cmath>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/mode_slopes.hpp"
#include "ssm/layers/sample_modes_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// 1/(e^{LΔλ} − 1), by which DSS of length L scales the B of S4D (Gupta, Gu & Berant 2022,
/// proposition 1).
inline std::complex<double> dss_factor(std::complex<double> lambda, double delta,
                                       Index length) noexcept {
  const std::complex<double> x = static_cast<double>(length) * delta * lambda;
  return 1.0 / (x * exp_and_phi1(x)[1]);
}

/// A mode that DSS divides by its sum must decay, in T: a decay may underflow to 0.
template <class T>
void check_dss_decay(std::string_view function, const SampleModesInputs<T>& in) {
  for (Index c = 0; c < in.log_decay.extent(0); ++c)
    for (Index n = 0; n < in.log_decay.extent(1); ++n)
      if (!(-std::exp(in.log_decay(c, n)) < 0))
        throw_domain(function, "Re lambda", std::to_string(-std::exp(in.log_decay(c, n))),
                     "below 0 for dss");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Computes the modes of diagonal systems from the weights of a layer, and samples them:
///
///   Λ = −exp(log_decay) + i frequency,  Δ = rate · exp(log_delta),
///
/// ā and B̄ from Λ, Δ and B by options.method, and for DSS first B ← B/(e^{LΔλ} − 1) (Gupta, Gu &
/// Berant 2022, proposition 1). Everything is computed in double, whatever T is.
///
/// Cost: one exponential for each mode, and two or three more where DSS, ā or B̄ are wanted. It runs
/// on the calling thread, as modes are few compared with sequences.
/// @throws ShapeError; DomainError for a rate that is not above 0 and finite, a method that changes
///   C or D, or modes of DSS that do not decay
template <class T>
void sample_modes(const Cpu&, const SampleModesInputs<T>& inputs, const SampleModesOptions& options,
                  const std::type_identity_t<SampleModesOutputs<T>>& outputs,
                  SampleModesScratch<T>& scratch) {
  using Complex = std::complex<T>;
  using Wide = std::complex<double>;
  constexpr std::string_view function = "sample_modes";
  const auto extents = detail::check_sample_modes(function, inputs, options);
  detail::check_sampled_modes(function, outputs, extents);
  const bool dss = options.dss_length > 0, bars = outputs.a_bar || outputs.b_bar;
  if (dss) detail::check_dss_decay(function, inputs);
  const T rate = static_cast<T>(options.rate);
  for (Index c = 0; c < extents[0]; ++c) {
    const T delta = rate * std::exp(inputs.log_delta(c));
    if (outputs.delta) outputs.delta(c) = delta;
    if (outputs.lambda)
      for (Index n = 0; n < extents[1]; ++n)
        outputs.lambda(c, n) = {-std::exp(inputs.log_decay(c, n)), inputs.frequency(c, n)};
    if (!(outputs.B || bars)) continue;
    const double wide_delta = options.rate * std::exp(static_cast<double>(inputs.log_delta(c)));
    for (Index n = 0; n < extents[1]; ++n) {
      Complex B = inputs.B ? inputs.B(c, n) : Complex(1);
      if (dss) {
        const Complex lambda(-std::exp(inputs.log_decay(c, n)), inputs.frequency(c, n));
        B = Complex(
            detail::dss_factor(Wide(lambda), static_cast<double>(delta), options.dss_length) *
            Wide(B));
      }
      if (outputs.B) outputs.B(c, n) = B;
      if (!bars) continue;
      const Wide lambda(-std::exp(static_cast<double>(inputs.log_decay(c, n))),
                        static_cast<double>(inputs.frequency(c, n)));
      const auto mode = discretize(options.method, lambda, wide_delta);
      if (outputs.a_bar) outputs.a_bar(c, n) = Complex(mode.a_bar);
      if (outputs.b_bar) outputs.b_bar(c, n) = Complex(mode.b_bar_factor * Wide(B));
    }
  }
  scratch.lambda = outputs.lambda;
  scratch.delta = outputs.delta;
  scratch.extents = extents;
}

/// The gradients of sample_modes with the same inputs and options.
///
/// Cost: a few multiply-adds for each mode where there are gradients of Λ and Δ only; otherwise
/// that of sample_modes.
/// @throws ShapeError and DomainError as sample_modes; ShapeError for the scratch of another call
template <class T>
void sample_modes_backward(
    const Cpu&, const SampleModesInputs<T>& inputs, const SampleModesOptions& options,
    const std::type_identity_t<SampleModesOutputGradients<T>>& output_gradients,
    const std::type_identity_t<SampleModesInputGradients<T>>& input_gradients,
    SampleModesScratch<T>& scratch) {
  using Complex = std::complex<T>;
  using Wide = std::complex<double>;
  constexpr std::string_view function = "sample_modes_backward";
  const auto extents = detail::check_sample_modes(function, inputs, options);
  const auto& [dlambda, ddelta, dB, da_bar, db_bar] = output_gradients;
  const auto& din = input_gradients;
  detail::check_sampled_modes(function, output_gradients, extents);
  detail::check_optional_shape(function, "the gradient of log_decay", din.log_decay, extents);
  detail::check_optional_shape(function, "the gradient of frequency", din.frequency, extents);
  detail::check_optional_shape(function, "the gradient of log_delta", din.log_delta,
                               std::array<Index, 1>{extents[0]});
  detail::check_optional_shape(function, "the gradient of B", din.B, extents);
  if (!detail::same_extents(scratch.extents, extents))
    detail::throw_shape(
        function, "scratch", "of another call, " + detail::to_string(scratch.extents),
        "one that sample_modes filled with these inputs, " + detail::to_string(extents));
  const bool dss = options.dss_length > 0, bars = da_bar || db_bar;
  const double L = static_cast<double>(options.dss_length);
  for (Index c = 0; c < extents[0]; ++c) {
    const double delta = scratch.delta && !bars
                             ? static_cast<double>(scratch.delta(c))
                             : options.rate * std::exp(static_cast<double>(inputs.log_delta(c)));
    double by_delta = ddelta ? static_cast<double>(ddelta(c)) : 0;
    for (Index n = 0; n < extents[1]; ++n) {
      const Wide lambda = scratch.lambda && !bars
                              ? Wide(scratch.lambda(c, n))
                              : Wide(-std::exp(static_cast<double>(inputs.log_decay(c, n))),
                                     static_cast<double>(inputs.frequency(c, n)));
      // p_k stands for the conjugate of the gradient by k: the loss moves by Re(p_k dk).
      Wide p_lambda = dlambda ? std::conj(Wide(dlambda(c, n))) : Wide(0);
      Wide p_B = dB ? std::conj(Wide(dB(c, n))) : Wide(0);
      const Wide B = inputs.B ? Wide(inputs.B(c, n)) : Wide(1);
      const Wide factor = dss ? detail::dss_factor(lambda, delta, options.dss_length) : Wide(1);
      if (bars) {
        const auto slopes = discretize_slopes(options.method, lambda, delta);
        const Wide p_a = da_bar ? std::conj(Wide(da_bar(c, n))) : Wide(0);
        const Wide p_b = db_bar ? std::conj(Wide(db_bar(c, n))) : Wide(0);
        const Wide p_factor = p_b * factor * B;
        p_B += p_b * discretize(options.method, lambda, delta).b_bar_factor;
        p_lambda += p_a * slopes.a_by_lambda + p_factor * slopes.b_by_lambda;
        by_delta += (p_a * slopes.a_by_delta + p_factor * slopes.b_by_delta).real();
      }
      if (dss) {
        const Wide p_x = p_B * B * (-L * factor * (1.0 + factor));  // x = Δλ
        p_B *= factor;
        p_lambda += p_x * delta;
        by_delta += (p_x * lambda).real();
      }
      if (din.B) din.B(c, n) = Complex(std::conj(p_B));
      // Re λ is an exponential, its own derivative, and so is Δ.
      if (din.log_decay) din.log_decay(c, n) = static_cast<T>(p_lambda.real() * lambda.real());
      if (din.frequency) din.frequency(c, n) = static_cast<T>(-p_lambda.imag());
    }
    if (din.log_delta) din.log_delta(c) = static_cast<T>(by_delta * delta);
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(sample_modes, SampleModes, float)
SSM_INSTANCE_OPERATION(sample_modes, SampleModes, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
