#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// A size that is known at run time only.
inline constexpr int Dynamic = Eigen::Dynamic;

namespace detail {

template <class Derived>
void check_matrix(std::string_view function, std::string_view argument,
                  const Eigen::MatrixBase<Derived>& matrix, Index rows, Index cols) {
  if (matrix.rows() != rows || matrix.cols() != cols)
    throw_extents(function, argument, std::array<Index, 2>{matrix.rows(), matrix.cols()},
                  std::array<Index, 2>{rows, cols});
}

/// The same where a size is known at run time only; fixed ones fit, at no cost.
template <class Derived>
void check_dynamic(std::string_view function, std::string_view argument,
                   const Eigen::MatrixBase<Derived>& matrix, Index rows, Index cols) {
  if constexpr (Derived::SizeAtCompileTime == Dynamic)
    check_matrix(function, argument, matrix, rows, cols);
}

/// Throws DomainError unless a step Δ can be that of a sampled system.
template <class T>
void check_sampling(std::string_view function, T delta) {
  if (!(delta > T(0) && std::isfinite(delta)))
    throw_domain(function, "delta", detail::number(delta), "positive and finite");
}

/// Throws DomainError unless Δ can be the time between two events in their order.
template <class T>
void check_elapsed(std::string_view function, T delta) {
  if (!(delta >= T(0) && std::isfinite(delta)))
    throw_domain(function, "delta", detail::number(delta), ">= 0 and finite");
}

/// The extent that a fixed size demands, or the one found.
constexpr Index fixed_or(int fixed, Index found) { return fixed == Dynamic ? found : fixed; }

/// The size of two sizes side by side, where both are fixed.
constexpr int fixed_sum(int a, int b) { return a == Dynamic || b == Dynamic ? Dynamic : a + b; }

/// The four matrices that a continuous and a discrete system share, of shapes that fit.
template <std::floating_point T, int States, int Inputs, int Outputs>
class SystemMatrices {
 public:
  using Scalar = T;
  using StateMatrix = Eigen::Matrix<T, States, States>;
  using InputMatrix = Eigen::Matrix<T, States, Inputs>;
  using OutputMatrix = Eigen::Matrix<T, Outputs, States>;
  using FeedthroughMatrix = Eigen::Matrix<T, Outputs, Inputs>;
  using StateVector = Eigen::Matrix<T, States, 1>;
  using InputVector = Eigen::Matrix<T, Inputs, 1>;
  using OutputVector = Eigen::Matrix<T, Outputs, 1>;

  /// True when every size is known at compile time: nothing then allocates.
  static constexpr bool fixed_size = States != Dynamic && Inputs != Dynamic && Outputs != Dynamic;

  [[nodiscard]] Index states() const noexcept { return A_.rows(); }
  [[nodiscard]] Index inputs() const noexcept { return D_.cols(); }
  [[nodiscard]] Index outputs() const noexcept { return D_.rows(); }

  [[nodiscard]] const OutputMatrix& C() const noexcept { return C_; }
  [[nodiscard]] const FeedthroughMatrix& D() const noexcept { return D_; }

 protected:
  template <class DA, class DB, class DC, class DD>
  SystemMatrices(std::string_view name, const Eigen::MatrixBase<DA>& A,
                 const Eigen::MatrixBase<DB>& B, const Eigen::MatrixBase<DC>& C,
                 const Eigen::MatrixBase<DD>& D) {
    const Index states = fixed_or(States, A.rows());
    const Index inputs = fixed_or(Inputs, B.cols());
    const Index outputs = fixed_or(Outputs, C.rows());
    check_matrix(name, "A", A, states, states);
    check_matrix(name, "B", B, states, inputs);
    check_matrix(name, "C", C, outputs, states);
    check_matrix(name, "D", D, outputs, inputs);
    A_ = A;
    B_ = B;
    C_ = C;
    D_ = D;
  }

  StateMatrix A_;
  InputMatrix B_;
  OutputMatrix C_;
  FeedthroughMatrix D_;
};

}  // namespace detail

/// A continuous linear time-invariant system: x' = A x + B u, y = C x + D u.
///
/// Immutable; every size is fixed at compile time or Dynamic. A system without states is a gain.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class StateSpace : public detail::SystemMatrices<T, States, Inputs, Outputs> {
  using Base = detail::SystemMatrices<T, States, Inputs, Outputs>;

 public:
  /// @param A (states, states), unit 1/s
  /// @param B (states, inputs)
  /// @param C (outputs, states)
  /// @param D (outputs, inputs)
  /// @throws ShapeError when the shapes do not fit each other or the fixed sizes
  template <class DA, class DB, class DC, class DD>
  StateSpace(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
             const Eigen::MatrixBase<DC>& C, const Eigen::MatrixBase<DD>& D)
      : Base("StateSpace", A, B, C, D) {}

  /// The same with D = 0.
  template <class DA, class DB, class DC>
  StateSpace(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
             const Eigen::MatrixBase<DC>& C)
      : StateSpace(A, B, C, Base::FeedthroughMatrix::Zero(C.rows(), B.cols())) {}

  /// The same with a number as the D of one input and one output.
  template <class DA, class DB, class DC>
  StateSpace(const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
             const Eigen::MatrixBase<DC>& C, std::type_identity_t<T> D)
      : StateSpace(A, B, C, Eigen::Matrix<T, 1, 1>(D)) {}

  /// A (states, states), 1/s.
  [[nodiscard]] const typename Base::StateMatrix& A() const noexcept { return this->A_; }
  /// B (states, inputs).
  [[nodiscard]] const typename Base::InputMatrix& B() const noexcept { return this->B_; }
};

/// Deduces the scalar type and the sizes from the arguments.
template <class DA, class DB, class DC, class... DD>
StateSpace(const Eigen::MatrixBase<DA>&, const Eigen::MatrixBase<DB>&, const Eigen::MatrixBase<DC>&,
           const Eigen::MatrixBase<DD>&...)
    -> StateSpace<typename DA::Scalar, DA::RowsAtCompileTime, DB::ColsAtCompileTime,
                  DC::RowsAtCompileTime>;

/// The same with a number for D.
template <class DA, class DB, class DC, class Number>
requires std::is_arithmetic_v<Number> StateSpace(const Eigen::MatrixBase<DA>&,
                                                 const Eigen::MatrixBase<DB>&,
                                                 const Eigen::MatrixBase<DC>&, Number)
->StateSpace<typename DA::Scalar, DA::RowsAtCompileTime, DB::ColsAtCompileTime,
             DC::RowsAtCompileTime>;

/// When the output of a discrete system is read, before or after the input has moved the state.
///
/// With a hold of step Δ, input u_t acts over [tΔ, (t+1)Δ) and x_{t+1} = A_bar x_t + B_bar u_t.
/// Control reads `before`: y_t = C x_t + D u_t is the output at tΔ, so that y_0 belongs to the
/// initial state. Sequence models read `after`: y_t = C x_{t+1} + D u_t is the output at (t+1)Δ,
/// which has seen u_t; it is that of C A_bar and D + C B_bar read before. Both move the state
/// alike.
enum class Readout { after, before };

/// A sampled linear time-invariant system, x_{t+1} = A_bar x_t + B_bar u_t, y_t = C x_t + D u_t,
/// and the step Δ that it was made for. Whoever computes with it takes that y_t, Readout::before,
/// unless it says otherwise.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class DiscreteStateSpace : public detail::SystemMatrices<T, States, Inputs, Outputs> {
  using Base = detail::SystemMatrices<T, States, Inputs, Outputs>;

 public:
  /// @param A_bar (states, states)
  /// @param B_bar (states, inputs)
  /// @param C (outputs, states)
  /// @param D (outputs, inputs)
  /// @param delta Δ, s, positive
  /// @throws ShapeError when the shapes do not fit each other or the fixed sizes
  /// @throws DomainError when Δ is not positive and finite
  template <class DA, class DB, class DC, class DD>
  DiscreteStateSpace(const Eigen::MatrixBase<DA>& A_bar, const Eigen::MatrixBase<DB>& B_bar,
                     const Eigen::MatrixBase<DC>& C, const Eigen::MatrixBase<DD>& D,
                     std::type_identity_t<T> delta)
      : Base("DiscreteStateSpace", A_bar, B_bar, C, D), delta_(delta) {
    detail::check_sampling("DiscreteStateSpace", delta);
  }

  /// The same with a number as the D of one input and one output.
  template <class DA, class DB, class DC>
  DiscreteStateSpace(const Eigen::MatrixBase<DA>& A_bar, const Eigen::MatrixBase<DB>& B_bar,
                     const Eigen::MatrixBase<DC>& C, std::type_identity_t<T> D,
                     std::type_identity_t<T> delta)
      : DiscreteStateSpace(A_bar, B_bar, C, Eigen::Matrix<T, 1, 1>(D), delta) {}

  /// A_bar (states, states).
  [[nodiscard]] const typename Base::StateMatrix& A_bar() const noexcept { return this->A_; }
  /// B_bar (states, inputs).
  [[nodiscard]] const typename Base::InputMatrix& B_bar() const noexcept { return this->B_; }
  /// The step Δ that it was made for, s.
  [[nodiscard]] T delta() const noexcept { return delta_; }

 private:
  T delta_;
};

/// Deduces the scalar type and the sizes from the arguments.
template <class DA, class DB, class DC, class DD, class T>
DiscreteStateSpace(const Eigen::MatrixBase<DA>&, const Eigen::MatrixBase<DB>&,
                   const Eigen::MatrixBase<DC>&, const Eigen::MatrixBase<DD>&, T)
    -> DiscreteStateSpace<typename DA::Scalar, DA::RowsAtCompileTime, DB::ColsAtCompileTime,
                          DC::RowsAtCompileTime>;

/// The same with a number for D.
template <class DA, class DB, class DC, class Number, class T>
requires std::is_arithmetic_v<Number> DiscreteStateSpace(const Eigen::MatrixBase<DA>&,
                                                         const Eigen::MatrixBase<DB>&,
                                                         const Eigen::MatrixBase<DC>&, Number, T)
->DiscreteStateSpace<typename DA::Scalar, DA::RowsAtCompileTime, DB::ColsAtCompileTime,
                     DC::RowsAtCompileTime>;

namespace detail {

enum class Time { continuous, discrete };

/// What a function that takes a system of either time needs to tell them apart.
template <class System>
struct SystemTraits;

template <class S, int States, int Inputs, int Outputs>
struct SystemTraits<StateSpace<S, States, Inputs, Outputs>> {
  static constexpr Time time = Time::continuous;
  static constexpr int states = States, inputs = Inputs, outputs = Outputs;
  template <int N, int M, int P>
  using Resized = StateSpace<S, N, M, P>;
};

template <class S, int States, int Inputs, int Outputs>
struct SystemTraits<DiscreteStateSpace<S, States, Inputs, Outputs>> {
  static constexpr Time time = Time::discrete;
  static constexpr int states = States, inputs = Inputs, outputs = Outputs;
  template <int N, int M, int P>
  using Resized = DiscreteStateSpace<S, N, M, P>;
};

}  // namespace detail

/// A StateSpace or a DiscreteStateSpace.
template <class System>
concept LinearSystem = requires {
  detail::SystemTraits<System>::time;
};

namespace detail {

template <LinearSystem System>
inline constexpr bool is_discrete = SystemTraits<System>::time == Time::discrete;

/// A or A_bar.
template <LinearSystem System>
const auto& state_matrix(const System& system) {
  if constexpr (is_discrete<System>)
    return system.A_bar();
  else
    return system.A();
}

/// B or B_bar.
template <LinearSystem System>
const auto& input_matrix(const System& system) {
  if constexpr (is_discrete<System>)
    return system.B_bar();
  else
    return system.B();
}

/// A system of these matrices, of the time and step of `like`.
template <int N, int M, int P, LinearSystem System, class DA, class DB, class DC, class DD>
auto system_like(const System& like, const Eigen::MatrixBase<DA>& A, const Eigen::MatrixBase<DB>& B,
                 const Eigen::MatrixBase<DC>& C, const Eigen::MatrixBase<DD>& D) {
  using T = typename System::Scalar;
  using Result = typename SystemTraits<System>::template Resized<N, M, P>;
  if constexpr (is_discrete<System>)
    return Result(A.template cast<T>(), B.template cast<T>(), C.template cast<T>(),
                  D.template cast<T>(), like.delta());
  else
    return Result(A.template cast<T>(), B.template cast<T>(), C.template cast<T>(),
                  D.template cast<T>());
}

}  // namespace detail
}  // namespace ssm
