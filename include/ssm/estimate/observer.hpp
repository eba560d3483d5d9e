#pragma once

#include <Eigen/Core>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/system/state_space.hpp"

namespace ssm {

/// A Luenberger observer of a sampled system: it runs a copy of the system and pushes it by L times
/// what its output is off,
///
///   x_{t+1} = A_bar x_t + B_bar u_t + L (y_t − C x_t − D u_t),
///
/// so that the error decays as (A_bar − L C)^t (Luenberger 1971, "An introduction to
/// observers"). y_t is the output at the time of u_t, Readout::before. L is the predictor's gain:
/// place_poles(A_barᵀ, Cᵀ, poles)ᵀ makes the poles the eigenvalues of A_bar − L C, and A_bar K is
/// that of a Kalman filter of gain K. Immutable; the state is a vector beside it.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class Observer {
 public:
  using System = DiscreteStateSpace<T, States, Inputs, Outputs>;
  using Gain = Eigen::Matrix<T, States, Outputs>;

  /// @param system A_bar, B_bar, C, D
  /// @param gain L (states, outputs)
  /// @throws ShapeError
  template <class DL>
  Observer(System system, const Eigen::MatrixBase<DL>& gain) : system_(std::move(system)) {
    detail::check_matrix("Observer", "gain", gain, system_.states(), system_.outputs());
    gain_ = gain;
  }

  [[nodiscard]] const System& system() const noexcept { return system_; }
  [[nodiscard]] const Gain& gain() const noexcept { return gain_; }

 private:
  System system_;
  Gain gain_;
};

/// Moves the observed state x, (states), from the time of the input u, (inputs), and the reading y,
/// (outputs), to the next. No allocation, no lock, no exception for fixed sizes.
/// @throws ShapeError for dynamic sizes
template <class T, int N, int M, int P>
void observer_step(const Observer<T, N, M, P>& observer,
                   const std::type_identity_t<Eigen::Matrix<T, M, 1>>& u,
                   const std::type_identity_t<Eigen::Matrix<T, P, 1>>& y,
                   Eigen::Matrix<T, N, 1>& x) noexcept(Observer<T, N, M, P>::System::fixed_size) {
  const auto& system = observer.system();
  constexpr std::string_view name = "observer_step";
  detail::check_dynamic(name, "u", u, system.inputs(), 1);
  detail::check_dynamic(name, "y", y, system.outputs(), 1);
  detail::check_dynamic(name, "x", x, system.states(), 1);
  const Eigen::Matrix<T, P, 1> off = y - system.C() * x - system.D() * u;
  x = (system.A_bar() * x + system.B_bar() * u + observer.gain() * off).eval();
}

}  // namespace ssm
