#pragma once

#include <complex>
#include <concepts>
#include <optional>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The same system with its A in Hessenberg form.
/// @throws DomainError when A is not finite
[[nodiscard]] Quadruple hessenberg_response(Quadruple system);

/// C (point I − A)⁻¹ B + D for an A in Hessenberg form.
[[nodiscard]] ComplexMatrix response_at(const Quadruple& system, std::complex<double> point);

SSM_END_COMPILED

namespace ssm {

/// The transfer function of a system at as many points as are asked for:
///
///   G(s) = C (sI − A)⁻¹ B + D,  in discrete time  G(z) = C (zI − A_bar)⁻¹ B_bar + D,
///
/// and z C (zI − A_bar)⁻¹ B_bar + D of a discrete system that is read by Readout::after.
///
/// A is brought to Hessenberg form once (Laub 1981); each point then costs states² instead of
/// states³. Computed in double for float as well.
template <std::floating_point T, int Inputs = Dynamic, int Outputs = Dynamic>
class FrequencyResponse {
 public:
  /// (outputs, inputs).
  using Response = Eigen::Matrix<std::complex<T>, Outputs, Inputs>;

  /// @param system continuous or discrete
  /// @param readout of a discrete system; a continuous one has none
  /// @throws DomainError when A is not finite
  /// Cost: about 10 states³.
  template <LinearSystem System>
  explicit FrequencyResponse(const System& system, Readout readout = Readout::before)
      : response_(detail::hessenberg_response(detail::Quadruple(system, readout))) {
    if constexpr (detail::is_discrete<System>) delta_ = static_cast<double>(system.delta());
  }

  /// G at a complex s (1/s) or z; not finite at a pole.
  /// Cost: states² (outputs + inputs) operations of a Givens solve.
  [[nodiscard]] Response at(std::complex<T> point) const {
    return evaluate(std::complex<double>(point));
  }

  /// G(iω), or G(e^{iωΔ}) of a discrete system: amplitude and phase of the answer to a sine.
  /// @param omega ω, rad/s
  [[nodiscard]] Response operator()(T omega) const {
    const auto wide = static_cast<double>(omega);
    return evaluate(delta_ ? std::polar(1.0, wide * *delta_) : std::complex<double>(0, wide));
  }

 private:
  [[nodiscard]] Response evaluate(std::complex<double> point) const {
    return detail::to_eigen<Response>(detail::response_at(response_, point));
  }

  detail::Quadruple response_;   // A in Hessenberg form
  std::optional<double> delta_;  // of a discrete system
};

/// Deduces the scalar type and the sizes from the arguments.
template <LinearSystem System>
FrequencyResponse(const System&, Readout = Readout::before)
    -> FrequencyResponse<typename System::Scalar, detail::SystemTraits<System>::inputs,
                         detail::SystemTraits<System>::outputs>;

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/frequency_response_impl.hpp"
#endif
