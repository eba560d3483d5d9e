#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/Jacobi>
#include <complex>
#include <concepts>
#include <optional>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

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
  using Response = Eigen::Matrix<std::complex<T>, Outputs, Inputs>;

  /// @param readout of a discrete system; a continuous one has none
  /// @throws DomainError when A is not finite
  /// Cost: about 10 states³.
  template <LinearSystem System>
  explicit FrequencyResponse(const System& system, Readout readout = Readout::before)
      : response_(system, readout) {
    if constexpr (detail::is_discrete<System>) delta_ = static_cast<double>(system.delta());
    if (!response_.A.allFinite())
      detail::throw_domain("FrequencyResponse", "A", "not finite", "finite");
    if (system.states() == 0) return;
    const Eigen::VectorXd scale = detail::balance(response_.A);
    const Eigen::HessenbergDecomposition<Eigen::MatrixXd> hessenberg(response_.A);
    const Eigen::MatrixXd Q = hessenberg.matrixQ();
    response_.A = hessenberg.matrixH();
    response_.B = (Q.transpose() * (scale.cwiseInverse().asDiagonal() * response_.B)).eval();
    response_.C = (response_.C * scale.asDiagonal() * Q).eval();
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
    const auto& [A, B, C, D] = response_;
    const Index n = A.rows();
    Eigen::MatrixXcd M = -A.template cast<std::complex<double>>();
    M.diagonal().array() += point;
    Eigen::MatrixXcd X = B.template cast<std::complex<double>>();
    for (Index k = 0; k + 1 < n; ++k) {
      Eigen::JacobiRotation<std::complex<double>> rotation;
      rotation.makeGivens(M(k, k), M(k + 1, k));
      auto rows = M.rightCols(n - k);
      rows.applyOnTheLeft(k, k + 1, rotation.adjoint());
      X.applyOnTheLeft(k, k + 1, rotation.adjoint());
    }
    if (n > 0) M.triangularView<Eigen::Upper>().solveInPlace(X);
    const Eigen::MatrixXcd G =
        C.template cast<std::complex<double>>() * X + D.template cast<std::complex<double>>();
    return G.template cast<std::complex<T>>();
  }

  detail::Quadruple<Eigen::MatrixXd> response_;
  std::optional<double> delta_;  // of a discrete system
};

template <LinearSystem System>
FrequencyResponse(const System&, Readout = Readout::before)
    -> FrequencyResponse<typename System::Scalar, detail::SystemTraits<System>::inputs,
                         detail::SystemTraits<System>::outputs>;

}  // namespace ssm
