#pragma once

#include <complex>
#include <concepts>
#include <optional>
#include <string_view>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

SSM_BEGIN_COMPILED

/// What SisoResponse computes with.
struct RootsResponse {
  std::vector<std::complex<double>> zeros, poles;
  double gain = 0, delay = 0, delta = 0;  // delta is 0 in continuous time
  bool turned = false;                    // the response begins at −180 degrees

  /// ln |G(ω)|.
  [[nodiscard]] double log_magnitude(double omega) const;
  /// arg G(ω), continuous in ω but for roots on the boundary.
  [[nodiscard]] double phase(double omega) const;
  /// π/Δ, or infinity in continuous time.
  [[nodiscard]] double highest() const;
};

/// Checks what it is given, and pairs conjugates.
[[nodiscard]] RootsResponse roots_response(std::string_view function,
                                           const std::vector<std::complex<double>>& zeros,
                                           const std::vector<std::complex<double>>& poles,
                                           double gain, double tolerance,
                                           std::optional<double> delta);

/// Frequencies at which a response with these corners (in s) has all its features: even in the
/// logarithm, and closer by a corner the less damped it is.
[[nodiscard]] std::vector<double> frequencies_for(const RootsResponse& response,
                                                  const std::vector<std::complex<double>>& more,
                                                  double decades_beyond, int per_decade);

SSM_END_COMPILED

namespace ssm {

/// The frequency response of one channel, from its zeros, poles and gain and a delay:
///
///   G(s) = gain · Π (s − zeros) / Π (s − poles) · e^{−s delay} at s = iω, or z = e^{iωΔ}.
///
/// Taken root by root, its magnitude neither overflows nor cancels, and its phase is continuous: a
/// root on the imaginary axis (or the unit circle) turns it by 180° at once, as if it were stable.
/// At low frequencies the phase is −90° for each integrator, and −180° more where the rest of G is
/// negative at rest. margins, bode, nyquist and root_locus read it. In double for float as well.
class SisoResponse {
 public:
  /// @param transfer of s, or of z when a step is given
  /// @param delta Δ, s, of a discrete one
  /// @throws ShapeError, DomainError as zeros_poles_gain does, or when Δ is not positive and finite
  template <std::floating_point T>
  SisoResponse(const TransferFunction<T>& transfer, std::optional<double> delta = {})
      : SisoResponse(zeros_poles_gain(transfer), delta) {}

  /// @param roots of s, or of z when a step is given
  /// @param delta Δ, s, of a discrete one
  /// @throws DomainError when one is not finite, a complex one lacks its conjugate, or Δ is not
  ///   positive and finite
  template <std::floating_point T>
  SisoResponse(const ZerosPolesGain<T>& roots, std::optional<double> delta = {}) {
    const auto wide = [](const auto& vector) {
      std::vector<std::complex<double>> result;
      for (Index i = 0; i < vector.size(); ++i) result.emplace_back(vector(i));
      return result;
    };
    detail::check_finite("SisoResponse", roots);
    response_ = detail::roots_response("SisoResponse", wide(roots.zeros), wide(roots.poles),
                                       static_cast<double>(roots.gain),
                                       detail::conjugate_tolerance<T>, delta);
  }

  /// Of one channel of a system.
  /// @param system continuous or discrete, read before the step
  /// @param output, input which channel
  /// @throws ShapeError, DomainError as zeros_poles_gain does
  template <LinearSystem System>
  SisoResponse(const System& system, Index output = 0, Index input = 0)
      : SisoResponse(
            detail::roots_of_channel("SisoResponse", system, output, input, Readout::before),
            step_of(system)) {}

  /// Of one channel of a DelayedSystem, with its delays, or of a DescriptorSystem.
  /// @param system continuous
  /// @param output, input which channel
  /// @throws ShapeError, DomainError as zeros_poles_gain does
  template <class System>
  requires(!LinearSystem<System> && requires(const System& some) { some.outputs(); })
      SisoResponse(const System& system, Index output = 0, Index input = 0)
      : SisoResponse(siso_response(system, output, input)) {}

  /// The same behind a further delay, s, ≥ 0.
  /// @throws DomainError when it is negative or not finite
  [[nodiscard]] SisoResponse delayed(double seconds) const {
    detail::check_elapsed("SisoResponse", seconds);
    SisoResponse result = *this;
    result.response_.delay += seconds;
    return result;
  }

  /// G at ω, rad/s.
  [[nodiscard]] std::complex<double> operator()(double omega) const {
    return std::polar(std::exp(response_.log_magnitude(omega)), response_.phase(omega));
  }
  /// |G| at ω, rad/s.
  [[nodiscard]] double magnitude(double omega) const {
    return std::exp(response_.log_magnitude(omega));
  }
  /// arg G at ω, rad/s, in rad, continuous in ω.
  [[nodiscard]] double phase(double omega) const { return response_.phase(omega); }
  /// π/Δ, rad/s; infinite in continuous time.
  [[nodiscard]] double highest_frequency() const { return response_.highest(); }

  /// The roots, gain and delay that it computes with.
  [[nodiscard]] const detail::RootsResponse& roots() const noexcept { return response_; }

 private:
  template <LinearSystem System>
  static std::optional<double> step_of(const System& system) {
    if constexpr (detail::is_discrete<System>)
      return static_cast<double>(system.delta());
    else
      return {};
  }

  detail::RootsResponse response_;
};

/// Frequencies for a plot of a response, rad/s: even in the logarithm from a decade below its
/// slowest corner to a decade above its fastest or to π/Δ, and closer about lightly damped ones.
/// @param response of one channel
/// @param per_decade points a decade, at least 1
/// @return increasing, the last at most π/Δ
/// @throws DomainError when per_decade < 1
[[nodiscard]] inline std::vector<double> plot_frequencies(const SisoResponse& response,
                                                          int per_decade = 50) {
  if (per_decade < 1)
    detail::throw_domain("plot_frequencies", "per_decade", std::to_string(per_decade), ">= 1");
  return detail::frequencies_for(response.roots(), {}, 1, per_decade);
}

/// What a Bode diagram draws: a value for each frequency.
struct BodeData {
  std::vector<double> frequency;  ///< ω, rad/s, increasing
  std::vector<double> magnitude;  ///< 20 log₁₀ |G|, dB
  std::vector<double> phase;      ///< arg G, degrees, unwrapped
};

/// Magnitude and unwrapped phase of a response: `bode(plant)` at plot_frequencies.
/// @param response of one channel: a system, a transfer function, zeros, poles and gain
/// @param frequency rad/s; those of plot_frequencies when there are none
/// @throws DomainError when a frequency is negative or not finite, or above π/Δ
/// Cost: zeros + poles operations a frequency.
[[nodiscard]] inline BodeData bode(const SisoResponse& response,
                                   std::vector<double> frequency = {}) {
  if (frequency.empty()) frequency = plot_frequencies(response);
  BodeData data{std::move(frequency), {}, {}};
  for (const double omega : data.frequency) {
    if (!(omega >= 0 && std::isfinite(omega) && omega <= response.highest_frequency()))
      detail::throw_domain("bode", "frequency", detail::number(omega),
                           "finite, >= 0 and at most pi over the step");
    data.magnitude.push_back(8.685889638065035 * response.roots().log_magnitude(omega));
    data.phase.push_back(57.29577951308232 * response.phase(omega));
  }
  return data;
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/siso_response_impl.hpp"
#endif
