#pragma once

#include <array>
#include <complex>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

namespace ssm {

/// What sample_modes reads: the weights from which the modes Λ = −exp(log_decay) + i frequency of a
/// diagonal system follow. Modes come in groups that share one Δ: a group is a channel of S4D or
/// S4, and a single mode of S5.
template <class T, class Space = Host>
struct SampleModesInputs {
  View<const T, 2, Space> log_decay;             ///< (groups, modes): log(−Re λ), λ in 1/s
  View<const T, 2, Space> frequency;             ///< (groups, modes): Im λ, 1/s
  View<const T, 1, Space> log_delta;             ///< (groups): log Δ, Δ in s
  View<const std::complex<T>, 2, Space> B = {};  ///< (groups, modes), optional: 1 when absent
};

/// How sample_modes is to run.
struct SampleModesOptions {
  double rate = 1;  ///< Δ is multiplied by it
  Discretization method =
      Discretization::zero_order_hold;  ///< by which a_bar and b_bar are sampled
  Index dss_length = 0;                 ///< L of DSS, which scales B; 0 for models other than DSS
};

/// What sample_modes writes. Absent outputs are not computed. Outputs share no memory.
template <class T, class Space = Host>
struct SampleModesOutputs {
  View<std::complex<T>, 2, Space> lambda = {};  ///< Λ (groups, modes), 1/s
  View<T, 1, Space> delta = {};                 ///< Δ (groups), s
  View<std::complex<T>, 2, Space> B = {};       ///< (groups, modes): B, for DSS scaled
  View<std::complex<T>, 2, Space> a_bar = {};   ///< ā (groups, modes)
  View<std::complex<T>, 2, Space> b_bar = {};   ///< B̄ (groups, modes)
};

/// The gradients of a real loss with respect to the outputs, which sample_modes_backward reads.
/// Absent ones are zero. The gradient with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct SampleModesOutputGradients {
  View<const std::complex<T>, 2, Space> lambda = {};  ///< (groups, modes)
  View<const T, 1, Space> delta = {};                 ///< (groups)
  View<const std::complex<T>, 2, Space> B = {};       ///< (groups, modes)
  View<const std::complex<T>, 2, Space> a_bar = {};   ///< (groups, modes)
  View<const std::complex<T>, 2, Space> b_bar = {};   ///< (groups, modes)
};

/// The gradients that sample_modes_backward overwrites. Absent ones are not computed.
template <class T, class Space = Host>
struct SampleModesInputGradients {
  View<T, 2, Space> log_decay;  ///< (groups, modes)
  View<T, 2, Space> frequency;  ///< (groups, modes)
  View<T, 1, Space> log_delta;  ///< (groups)
  View<std::complex<T>, 2, Space> B =
      {};  ///< (groups, modes); may be the memory of the gradient of the output B
};

/// What sample_modes leaves for sample_modes_backward: views of the Λ and Δ that it wrote. Their
/// memory must live, unchanged, until then.
template <class T, class Space = Host>
struct SampleModesScratch {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ as sample_modes wrote it
  View<const T, 1, Space> delta;                 ///< Δ as sample_modes wrote it
  std::array<Index, 2> extents{-1, -1};          ///< of the call before
};

namespace detail {

template <class T, class Space>
std::array<Index, 2> check_sample_modes(std::string_view function,
                                        const SampleModesInputs<T, Space>& in,
                                        const SampleModesOptions& options) {
  if (!in.log_decay) throw_shape(function, "log_decay", "absent", "(groups, modes)");
  const std::array<Index, 2> extents = in.log_decay.extents();
  check_shape(function, "frequency", in.frequency, extents);
  check_shape(function, "log_delta", in.log_delta, std::array<Index, 1>{extents[0]});
  check_optional_shape(function, "B", in.B, extents);
  check_keeps_output(function, options.method);
  if (options.dss_length < 0)
    throw_domain(function, "dss_length", std::to_string(options.dss_length), "at least 0");
  if (!(options.rate > 0 && options.rate <= static_cast<double>((std::numeric_limits<T>::max)())))
    throw_domain(function, "rate", std::to_string(options.rate), "above 0 and finite");
  return extents;
}

/// Of the outputs, and of gradients by them.
template <class Outputs>
void check_sampled_modes(std::string_view function, const Outputs& out,
                         const std::array<Index, 2>& extents) {
  check_optional_shape(function, "lambda", out.lambda, extents);
  check_optional_shape(function, "delta", out.delta, std::array<Index, 1>{extents[0]});
  check_optional_shape(function, "B", out.B, extents);
  check_optional_shape(function, "a_bar", out.a_bar, extents);
  check_optional_shape(function, "b_bar", out.b_bar, extents);
}

}  // namespace detail
}  // namespace ssm
