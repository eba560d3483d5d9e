#pragma once

#include <Eigen/Core>
#include <Eigen/LU>
#include <array>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/core/balance.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

constexpr int fixed_sum(int a, int b) { return a == Dynamic || b == Dynamic ? Dynamic : a + b; }

/// Solves (I − loop) X = right for a loop of gains without delay.
template <class Matrix>
Matrix solve_loop(std::string_view function, const Matrix& loop, const Matrix& right) {
  if (loop.rows() == 0) return right;
  const Matrix whole = Matrix::Identity(loop.rows(), loop.rows()) - loop;
  const Eigen::FullPivLU<Matrix> lu(whole);
  if (!whole.allFinite() || !lu.isInvertible())
    throw_domain(function, "the algebraic loop", "singular", "solvable");
  return lu.solve(right);
}

template <class Matrix>
Matrix block_diagonal(const Matrix& first, const Matrix& second) {
  Matrix result = Matrix::Zero(first.rows() + second.rows(), first.cols() + second.cols());
  result.topLeftCorner(first.rows(), first.cols()) = first;
  result.bottomRightCorner(second.rows(), second.cols()) = second;
  return result;
}

/// How the inputs v of two systems side by side come about, v = F y + G r from all their outputs y
/// and the inputs r from outside, and what leaves, H y.
template <class Matrix>
struct Wiring {
  Matrix F, G, H;
};

/// The whole of two systems and their wiring, discrete ones read before the step.
template <int M, int P, LinearSystem First, LinearSystem Second>
auto connect(std::string_view function, const First& first, const Second& second,
             const Wiring<Eigen::MatrixXd>& wiring) {
  using Matrix = Eigen::MatrixXd;
  using One = SystemTraits<First>;
  using Two = SystemTraits<Second>;
  static_assert(One::time == Two::time, "both systems are continuous or both are discrete");
  if constexpr (is_discrete<First>)
    if (first.delta() != second.delta())
      throw_domain(function, "delta of the second system", std::to_string(second.delta()),
                   std::to_string(first.delta()) + " as of the first");
  const auto both = [](const auto& a, const auto& b) {
    return block_diagonal<Matrix>(a.template cast<double>(), b.template cast<double>());
  };
  const Matrix A = both(state_matrix(first), state_matrix(second));
  const Matrix B = both(input_matrix(first), input_matrix(second));
  const Matrix C = both(first.C(), second.C()), D = both(first.D(), second.D());
  const auto& [F, G, H] = wiring;

  // v = F (C x + D v) + G r, so v = V_x x + V_r r.
  Matrix right(F.rows(), C.cols() + G.cols());
  right << F * C, G;
  const Matrix V = solve_loop<Matrix>(function, F * D, right);
  const Matrix V_x = V.leftCols(C.cols()), V_r = V.rightCols(G.cols());
  const Matrix A_whole = A + B * V_x, B_whole = B * V_r;
  const Matrix C_whole = H * (C + D * V_x), D_whole = H * D * V_r;
  return system_like<fixed_sum(One::states, Two::states), M, P>(first, A_whole, B_whole, C_whole,
                                                                D_whole);
}

}  // namespace detail

/// The same system with other states, x = T z: A → T⁻¹ A T, B → T⁻¹ B, C → C T, D as it was.
///
/// @param T (states, states), invertible
/// @throws ShapeError
/// @throws DomainError when T is singular to working precision
/// Cost: one LU of (states) and two products.
template <LinearSystem System, class DT>
[[nodiscard]] System similarity_transform(const System& system, const Eigen::MatrixBase<DT>& T) {
  using Matrix = Eigen::MatrixXd;
  using Traits = detail::SystemTraits<System>;
  detail::check_matrix("similarity_transform", "T", T, system.states(), system.states());
  if (system.states() == 0) return system;
  const Matrix wide = T.template cast<double>();
  const Eigen::FullPivLU<Matrix> lu(wide);
  if (!wide.allFinite() || !lu.isInvertible())
    detail::throw_domain("similarity_transform", "T", "singular", "invertible");
  const Matrix AT = detail::state_matrix(system).template cast<double>() * wide;
  const Matrix B = detail::input_matrix(system).template cast<double>();
  return detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
      system, lu.solve(AT), lu.solve(B), system.C().template cast<double>() * wide, system.D());
}

/// The same system with its states in units, powers of two, that even out the rows and columns of
/// A: exact, and what later steps lose to rounding shrinks. Companion forms need it most.
template <LinearSystem System>
[[nodiscard]] System balance_states(const System& system) {
  using Traits = detail::SystemTraits<System>;
  Eigen::MatrixXd A = detail::state_matrix(system).template cast<double>();
  const Eigen::VectorXd scale = detail::balance(A);
  return detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
      system, A,
      scale.cwiseInverse().asDiagonal() * detail::input_matrix(system).template cast<double>(),
      system.C().template cast<double>() * scale.asDiagonal(), system.D());
}

/// One system after the other: y = second(first(u)). The state is that of the first, then that of
/// the second. Discrete systems are read before the step, y_t = C x_t + D u_t, and so is the whole.
///
/// @throws ShapeError when the second does not have as many inputs as the first has outputs
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto series(const First& first, const Second& second) {
  using Matrix = Eigen::MatrixXd;
  const Index m = first.inputs(), p = first.outputs(), q = second.outputs();
  detail::check_matrix("series", "D of the second system", second.D(), q, p);
  detail::Wiring<Matrix> wiring{Matrix::Zero(m + p, p + q), Matrix::Zero(m + p, m),
                                Matrix::Zero(q, p + q)};
  wiring.F.bottomLeftCorner(p, p).setIdentity();
  wiring.G.topRows(m).setIdentity();
  wiring.H.rightCols(q).setIdentity();
  return detail::connect<detail::SystemTraits<First>::inputs,
                         detail::SystemTraits<Second>::outputs>("series", first, second, wiring);
}

/// Two systems side by side on the same input, their outputs added: y = first(u) + second(u).
/// Discrete systems are read before the step, and so is the whole.
///
/// @throws ShapeError when they differ in inputs or outputs
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto parallel(const First& first, const Second& second) {
  using Matrix = Eigen::MatrixXd;
  const Index m = first.inputs(), p = first.outputs();
  detail::check_matrix("parallel", "D of the second system", second.D(), p, m);
  detail::Wiring<Matrix> wiring{Matrix::Zero(2 * m, 2 * p), Matrix(2 * m, m), Matrix(p, 2 * p)};
  wiring.G << Matrix::Identity(m, m), Matrix::Identity(m, m);
  wiring.H << Matrix::Identity(p, p), Matrix::Identity(p, p);
  return detail::connect<detail::SystemTraits<First>::inputs, detail::SystemTraits<First>::outputs>(
      "parallel", first, second, wiring);
}

/// The closed loop y = forward(u − back(y)): negative feedback through `back`. For positive
/// feedback negate C and D of back. Discrete systems are read before the step, y_t = C x_t + D u_t,
/// so that only D acts at once, and so is the whole.
///
/// @throws ShapeError when back does not take the outputs of forward to its inputs
/// @throws DomainError when the algebraic loop I + D_back D_forward is singular, or discrete
///   systems have different steps
template <LinearSystem Forward, LinearSystem Back>
[[nodiscard]] auto feedback(const Forward& forward, const Back& back) {
  using Matrix = Eigen::MatrixXd;
  const Index m = forward.inputs(), p = forward.outputs();
  detail::check_matrix("feedback", "D of the way back", back.D(), m, p);
  detail::Wiring<Matrix> wiring{Matrix::Zero(m + p, p + m), Matrix::Zero(m + p, m),
                                Matrix::Zero(p, p + m)};
  wiring.F.topRightCorner(m, m) = -Matrix::Identity(m, m);
  wiring.F.bottomLeftCorner(p, p).setIdentity();
  wiring.G.topRows(m).setIdentity();
  wiring.H.leftCols(p).setIdentity();
  return detail::connect<detail::SystemTraits<Forward>::inputs,
                         detail::SystemTraits<Forward>::outputs>("feedback", forward, back, wiring);
}

/// Two systems in one, each with inputs and outputs of its own. Discrete systems are read before
/// the step, and so is the whole.
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto append(const First& first, const Second& second) {
  using Matrix = Eigen::MatrixXd;
  using One = detail::SystemTraits<First>;
  using Two = detail::SystemTraits<Second>;
  const Index m = first.inputs() + second.inputs(), p = first.outputs() + second.outputs();
  const detail::Wiring<Matrix> wiring{Matrix::Zero(m, p), Matrix::Identity(m, m),
                                      Matrix::Identity(p, p)};
  return detail::connect<detail::fixed_sum(One::inputs, Two::inputs),
                         detail::fixed_sum(One::outputs, Two::outputs)>("append", first, second,
                                                                        wiring);
}

}  // namespace ssm
