#pragma once

#include <type_traits>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/dual.hpp"
#include "ssm/core/index.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The Jacobian ∂f/∂x at x0, exact but for rounding: forward-mode differentiation, one direction
/// after the other.
///
/// @param f takes a column vector of any scalar type and gives one: `[](const auto& x) { using
///   T = typename std::decay_t<decltype(x)>::Scalar; return Eigen::Vector2<T>(…); }`. Its functions
///   are called as `using std::sin; sin(x(0))`, so that those of Dual are found.
/// @param x0 (n)
/// @return (size of f(x0), n)
/// Cost: n evaluations of f on Dual numbers, one more to learn the size of f(x0) when it is
/// Dynamic; no allocation when f and x0 have fixed sizes.
template <class F, class DX>
[[nodiscard]] auto jacobian(const F& f, const Eigen::MatrixBase<DX>& x0) {
  EIGEN_STATIC_ASSERT_VECTOR_ONLY(DX);
  using T = typename DX::Scalar;
  constexpr int size = DX::SizeAtCompileTime;
  using Point = Eigen::Matrix<Dual<T>, size, 1>;
  using Value = typename std::decay_t<decltype(f(std::declval<const Point&>()))>::PlainObject;
  constexpr int rows = Value::SizeAtCompileTime;
  Point x(x0.size());
  for (Index i = 0; i < x0.size(); ++i) x(i) = x0(i);
  const Index outputs = rows == Dynamic ? Value(f(std::as_const(x))).size() : rows;
  Eigen::Matrix<T, rows, size> result(outputs, x0.size());
  for (Index i = 0; i < x.size(); ++i) {
    x(i).derivative = T(1);
    const Value y = f(std::as_const(x));
    x(i).derivative = T(0);
    for (Index j = 0; j < outputs; ++j) result(j, i) = y(j).derivative;
  }
  return result;
}

/// The linear system that x' = f(x, u), y = h(x, u) is near (x0, u0):
///
///   A = ∂f/∂x,  B = ∂f/∂u,  C = ∂h/∂x,  D = ∂h/∂u,
///
/// in the deviations x − x0, u − u0, y − h(x0, u0), where f(x0, u0) = 0; elsewhere f(x0, u0) adds
/// a constant. Exact but for rounding, by forward-mode differentiation.
///
/// @param f takes two column vectors (states) and (inputs) of one scalar type and gives one
///   (states), as for jacobian
/// @param h the same, and gives (outputs)
/// @param x0 (states)
/// @param u0 (inputs)
/// @throws ShapeError when f does not give as many numbers as there are states
/// Cost: states + inputs evaluations of f and of h on Dual numbers.
template <class F, class H, class DX, class DU>
[[nodiscard]] auto linearize(const F& f, const H& h, const Eigen::MatrixBase<DX>& x0,
                             const Eigen::MatrixBase<DU>& u0) {
  using T = typename DX::Scalar;
  using X = Eigen::Matrix<Dual<T>, DX::SizeAtCompileTime, 1>;
  using U = Eigen::Matrix<Dual<T>, DU::SizeAtCompileTime, 1>;
  X x(x0.size());
  U u(u0.size());
  for (Index i = 0; i < x.size(); ++i) x(i) = x0(i);
  for (Index i = 0; i < u.size(); ++i) u(i) = u0(i);
  const auto A = jacobian([&](const X& at) { return f(at, std::as_const(u)); }, x0);
  const auto B = jacobian([&](const U& at) { return f(std::as_const(x), at); }, u0);
  const auto C = jacobian([&](const X& at) { return h(at, std::as_const(u)); }, x0);
  const auto D = jacobian([&](const U& at) { return h(std::as_const(x), at); }, u0);
  detail::check_matrix("linearize", "the Jacobian of f", A, x0.size(), x0.size());
  return StateSpace<T, DX::SizeAtCompileTime, DU::SizeAtCompileTime,
                    std::decay_t<decltype(C)>::RowsAtCompileTime>(A, B, C, D);
}

/// The same with the state as output: C = I, D = 0.
template <class F, class DX, class DU>
[[nodiscard]] auto linearize(const F& f, const Eigen::MatrixBase<DX>& x0,
                             const Eigen::MatrixBase<DU>& u0) {
  return linearize(
      f, [](const auto& x, const auto&) { return x.eval(); }, x0, u0);
}

}  // namespace ssm
