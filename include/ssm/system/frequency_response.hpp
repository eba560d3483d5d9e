#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The same system with its A in Hessenberg form.
/// @throws DomainError when A is not finite
[[nodiscard]] Quadruple hessenberg_response(Quadruple system);

/// C (point I − A)⁻¹ B + D for an A in Hessenberg form at each of `count` points, one matrix after
/// the other.
void responses_at(const Quadruple& system, const std::complex<double>* points, Index count,
                  std::complex<double>* G);
/// The same at one point.
[[nodiscard]] ComplexMatrix response_at(const Quadruple& system, std::complex<double> point);

/// The gain with which zeros and poles answer as a system of one input and one output does at a
/// point amid its poles. Zeros far from all poles are what rounding has left where there should be
/// none: the first coefficient of D, CB, CAB, … is then as little known as they are, and what they
/// multiply is not.
[[nodiscard]] double gain_amid_poles(const Quadruple& system, const ComplexVector& zeros,
                                     const ComplexVector& poles);

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
  /// Cost: about states² (2 + inputs) complex multiplications, and allocates.
  [[nodiscard]] Response at(std::complex<T> point) const {
    return evaluate(std::complex<double>(point));
  }

  /// G(iω), or G(e^{iωΔ}) of a discrete system: amplitude and phase of the answer to a sine.
  /// @param omega ω, rad/s
  [[nodiscard]] Response operator()(T omega) const { return evaluate(point_of(omega)); }

  /// The same at many frequencies, in the order given.
  /// @param omega ω, rad/s: a vector of Eigen, or a contiguous range such as std::vector
  /// Cost: a vector of the processor takes as many frequencies as it has lanes of double.
  [[nodiscard]] std::vector<Response> operator()(
      const std::type_identity_t<detail::VectorArgument<T, Dynamic>>& omega) const {
    constexpr Index at_once = 256;
    constexpr int size = Response::SizeAtCompileTime;
    constexpr bool in_place = std::is_same_v<T, double> && size > 0 &&
                              sizeof(Response) == sizeof(std::complex<T>) * std::size_t(size);
    const Index count = omega.size(), rows = response_.D.rows(), cols = response_.D.cols();
    std::array<std::complex<double>, static_cast<std::size_t>(at_once)> points;
    std::vector<std::complex<double>> values(
        in_place ? 0 : static_cast<std::size_t>(at_once * rows * cols));
    std::vector<Response> responses(static_cast<std::size_t>(count));
    for (Index from = 0; from < count; from += at_once) {
      const Index several = (std::min)(at_once, count - from);
      for (Index t = 0; t < several; ++t)
        points[static_cast<std::size_t>(t)] = point_of(omega.vector()(from + t));
      if constexpr (in_place) {  // one after the other as they are
        detail::responses_at(response_, points.data(), several,
                             responses[static_cast<std::size_t>(from)].data());
      } else {
        detail::responses_at(response_, points.data(), several, values.data());
        const std::complex<double>* value = values.data();
        for (Index t = 0; t < several; ++t) {
          Response& response = responses[static_cast<std::size_t>(from + t)];
          response.resize(rows, cols);
          for (Index i = 0; i < rows * cols; ++i)
            response.data()[i] = static_cast<std::complex<T>>(*value++);
        }
      }
    }
    return responses;
  }

 private:
  [[nodiscard]] std::complex<double> point_of(T omega) const {
    const auto wide = static_cast<double>(omega);
    return delta_ ? std::polar(1.0, wide * *delta_) : std::complex<double>(0, wide);
  }
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
