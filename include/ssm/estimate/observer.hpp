#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/system/detail/vector_argument.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// Room for the numbers of one step: on the stack for fixed sizes, and for others up to 256.
template <class T, int Size>
class StepRoom {
 public:
  explicit StepRoom(Index size) {
    if (static_cast<std::size_t>(size) > stack_.size()) {
      heap_.resize(static_cast<std::size_t>(size));
      data_ = heap_.data();
    }
  }
  StepRoom(const StepRoom&) = delete;
  StepRoom& operator=(const StepRoom&) = delete;

  [[nodiscard]] T* data() noexcept { return data_; }

 private:
  std::array<T, Size == Dynamic ? 256 : static_cast<std::size_t>(Size)> stack_;
  std::vector<T> heap_;
  T* data_ = stack_.data();
};

}  // namespace detail

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
  /// A_bar, B_bar, C, D.
  using System = DiscreteStateSpace<T, States, Inputs, Outputs>;
  /// (states, outputs).
  using Gain = Eigen::Matrix<T, States, Outputs>;

  /// @param system A_bar, B_bar, C, D
  /// @param gain L (states, outputs)
  /// @throws ShapeError
  template <class DL>
  Observer(System system, const Eigen::MatrixBase<DL>& gain) : system_(std::move(system)) {
    detail::check_matrix("Observer", "gain", gain, system_.states(), system_.outputs());
    gain_ = gain;
  }

  /// A_bar, B_bar, C, D.
  [[nodiscard]] const System& system() const noexcept { return system_; }
  /// L (states, outputs).
  [[nodiscard]] const Gain& gain() const noexcept { return gain_; }

 private:
  System system_;
  Gain gain_;
};

/// Moves the observed state from the time of the input and the reading to the next. No lock, no
/// allocation for fixed sizes, nor for others up to 256 states and outputs together.
///
/// @param observer the system and its gain
/// @param input u (inputs); a number for one input
/// @param reading y (outputs); a number for one output
/// @param x (states), the observed state before the step, and after it
/// @throws ShapeError for dynamic sizes; nothing for fixed ones
/// Cost: (states + outputs) · (states + inputs) + states · outputs.
template <class T, int N, int M, int P>
void observer_step(const Observer<T, N, M, P>& observer,
                   const std::type_identity_t<detail::VectorArgument<T, M>>& input,
                   const std::type_identity_t<detail::VectorArgument<T, P>>& reading,
                   Eigen::Matrix<T, N, 1>& x) noexcept(Observer<T, N, M, P>::System::fixed_size) {
  const auto& system = observer.system();
  const auto u = input.vector();
  const auto y = reading.vector();
  constexpr std::string_view name = "observer_step";
  detail::check_dynamic(name, "u", u, system.inputs(), 1);
  detail::check_dynamic(name, "y", y, system.outputs(), 1);
  detail::check_dynamic(name, "x", x, system.states(), 1);
  constexpr int size = detail::fixed_sum(N, P);
  detail::StepRoom<T, size> room(system.states() + system.outputs());
  Eigen::Map<Eigen::Matrix<T, N, 1>> next(room.data(), system.states());
  Eigen::Map<Eigen::Matrix<T, P, 1>> off(room.data() + system.states(), system.outputs());
  next.setZero();
  off.setZero();
  detail::add_product_to(off, system.C(), x);
  detail::add_product_to(off, system.D(), u);
  off = y - off;
  detail::add_product_to(next, system.A_bar(), x);
  detail::add_product_to(next, system.B_bar(), u);
  detail::add_product_to(next, observer.gain(), off);
  x = next;
}

}  // namespace ssm
