#pragma once

#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {
namespace detail {

/// [first 0; 0 second].
template <class DA, class DB>
RealMatrix block_diagonal(const Eigen::MatrixBase<DA>& first, const Eigen::MatrixBase<DB>& second) {
  RealMatrix result(first.rows() + second.rows(), first.cols() + second.cols());
  result.set_block(0, 0, RealMatrix(first));
  result.set_block(first.rows(), first.cols(), RealMatrix(second));
  return result;
}

/// How the inputs v of two systems side by side come about, v = F y + G r from all their outputs y
/// and the inputs r from outside, and what leaves, H y.
struct Wiring {
  RealMatrix F, G, H;
};

/// The v of v = loop v + right.
/// @throws DomainError when there is none, or many
inline RealMatrix solve_loop(std::string_view function, const RealMatrix& loop, RealMatrix right) {
  if (!loop.all_finite() || !right.all_finite())
    throw_domain(function, "a system", "not finite", "finite");
  if ((loop * loop).is_zero()) return right + loop * right;  // nothing comes back to where it was
  const RealMatrix identity = RealMatrix::Identity(loop.rows(), loop.cols());
  auto v = solve_invertible(identity - loop, std::move(right), identity + moduli_of(loop));
  if (!v) throw_domain(function, "the algebraic loop", "singular", "solvable");
  return std::move(*v);
}

/// The whole of two systems and their wiring, discrete ones read before the step.
template <int M, int P, LinearSystem First, LinearSystem Second>
auto connect(std::string_view function, const First& first, const Second& second,
             const Wiring& wiring) {
  using One = SystemTraits<First>;
  using Two = SystemTraits<Second>;
  static_assert(One::time == Two::time,
                "systems that are connected are both continuous or both discrete: sample the "
                "continuous one first, as zero_order_hold does");
  if constexpr (is_discrete<First>)
    if (first.delta() != second.delta())
      throw_domain(function, "delta of the second system", detail::number(second.delta()),
                   detail::number(first.delta()) + " as of the first");
  const RealMatrix A = block_diagonal(state_matrix(first), state_matrix(second));
  const RealMatrix B = block_diagonal(input_matrix(first), input_matrix(second));
  const RealMatrix C = block_diagonal(first.C(), second.C());
  const RealMatrix D = block_diagonal(first.D(), second.D());
  const auto& [F, G, H] = wiring;

  // v = F (C x + D v) + G r, so v = V_x x + V_r r.
  const Index states = C.cols(), outer = G.cols();
  RealMatrix right(F.rows(), states + outer);
  right.set_block(0, 0, F * C);
  right.set_block(0, states, G);
  const RealMatrix V = solve_loop(function, F * D, std::move(right));
  const RealMatrix V_x = V.block(0, 0, F.rows(), states), V_r = V.block(0, states, F.rows(), outer);
  using Result = typename One::template Resized<fixed_sum(One::states, Two::states), M, P>;
  return system_like<fixed_sum(One::states, Two::states), M, P>(
      first, to_eigen<typename Result::StateMatrix>(A + B * V_x),
      to_eigen<typename Result::InputMatrix>(B * V_r),
      to_eigen<typename Result::OutputMatrix>(H * (C + D * V_x)),
      to_eigen<typename Result::FeedthroughMatrix>(H * D * V_r));
}

/// second(first(u)).
template <LinearSystem First, LinearSystem Second>
auto one_after_the_other(std::string_view function, const First& first, const Second& second) {
  const Index m = first.inputs(), p = first.outputs(), q = second.outputs();
  check_matrix(function, "D of the second system", second.D(), q, p);
  Wiring wiring{{m + p, p + q}, {m + p, m}, {q, p + q}};
  wiring.F.set_block(m, 0, RealMatrix::Identity(p, p));
  wiring.G.set_block(0, 0, RealMatrix::Identity(m, m));
  wiring.H.set_block(0, p, RealMatrix::Identity(q, q));
  return connect<SystemTraits<First>::inputs, SystemTraits<Second>::outputs>(function, first,
                                                                             second, wiring);
}

/// first(u) + second(u).
template <LinearSystem First, LinearSystem Second>
auto side_by_side(std::string_view function, const First& first, const Second& second) {
  const Index m = first.inputs(), p = first.outputs();
  check_matrix(function, "D of the second system", second.D(), p, m);
  Wiring wiring{{2 * m, 2 * p}, {2 * m, m}, {p, 2 * p}};
  for (const Index half : {0, 1}) {
    wiring.G.set_block(half * m, 0, RealMatrix::Identity(m, m));
    wiring.H.set_block(0, half * p, RealMatrix::Identity(p, p));
  }
  return connect<SystemTraits<First>::inputs, SystemTraits<First>::outputs>(function, first, second,
                                                                            wiring);
}

}  // namespace detail

/// The same system with other states, x = T z: A → T⁻¹ A T, B → T⁻¹ B, C → C T, D as it was.
///
/// @param system continuous or discrete
/// @param T (states, states), invertible
/// @throws ShapeError
/// @throws DomainError when T is not finite or singular to working precision
/// Cost: one LU of (states) and two products.
template <LinearSystem System, class DT>
[[nodiscard]] System similarity_transform(const System& system, const Eigen::MatrixBase<DT>& T) {
  using detail::RealMatrix;
  using Traits = detail::SystemTraits<System>;
  const Index states = system.states(), inputs = system.inputs();
  detail::check_matrix("similarity_transform", "T", T, states, states);
  const RealMatrix wide(T);
  if (!wide.all_finite()) detail::throw_domain("similarity_transform", "T", "not finite", "finite");
  RealMatrix right(states, states + inputs);
  right.set_block(0, 0, RealMatrix(detail::state_matrix(system)) * wide);
  right.set_block(0, states, RealMatrix(detail::input_matrix(system)));
  const auto solved = detail::solve_invertible(wide, std::move(right), detail::moduli_of(wide));
  if (!solved) detail::throw_domain("similarity_transform", "T", "singular", "invertible");
  return detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
      system, detail::to_eigen<typename System::StateMatrix>(solved->block(0, 0, states, states)),
      detail::to_eigen<typename System::InputMatrix>(solved->block(0, states, states, inputs)),
      detail::to_eigen<typename System::OutputMatrix>(RealMatrix(system.C()) * wide), system.D());
}

/// The same system with its states in units, powers of two, that even out the rows and columns of
/// A: exact, and what later steps lose to rounding shrinks. Companion forms need it most.
template <LinearSystem System>
[[nodiscard]] System balance_states(const System& system) {
  using Traits = detail::SystemTraits<System>;
  detail::RealMatrix A(detail::state_matrix(system));
  const detail::RealVector scale = detail::balance(A);
  const auto B = scale_rows(inverse_of(scale), detail::RealMatrix(detail::input_matrix(system)));
  const auto C = scale_columns(detail::RealMatrix(system.C()), scale);
  return detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
      system, detail::to_eigen<typename System::StateMatrix>(A),
      detail::to_eigen<typename System::InputMatrix>(B),
      detail::to_eigen<typename System::OutputMatrix>(C), system.D());
}

/// One system after the other: y = second(first(u)). The state is that of the first, then that of
/// the second. Discrete systems are read before the step, y_t = C x_t + D u_t, and so is the whole.
///
/// @throws ShapeError when the second does not have as many inputs as the first has outputs
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto series(const First& first, const Second& second) {
  return detail::one_after_the_other("series", first, second);
}

/// Two systems side by side on the same input, their outputs added: y = first(u) + second(u).
/// Discrete systems are read before the step, and so is the whole.
///
/// @throws ShapeError when they differ in inputs or outputs
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto parallel(const First& first, const Second& second) {
  return detail::side_by_side("parallel", first, second);
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
  const Index m = forward.inputs(), p = forward.outputs();
  detail::check_matrix("feedback", "D of the way back", back.D(), m, p);
  detail::Wiring wiring{{m + p, p + m}, {m + p, m}, {p, p + m}};
  wiring.F.set_block(0, p, -detail::RealMatrix::Identity(m, m));
  wiring.F.set_block(m, 0, detail::RealMatrix::Identity(p, p));
  wiring.G.set_block(0, 0, detail::RealMatrix::Identity(m, m));
  wiring.H.set_block(0, 0, detail::RealMatrix::Identity(p, p));
  return detail::connect<detail::SystemTraits<Forward>::inputs,
                         detail::SystemTraits<Forward>::outputs>("feedback", forward, back, wiring);
}

/// The same with as many inputs as outputs through the constant gain k, y = forward(u − k y);
/// feedback(loop) closes it as it is.
///
/// @throws ShapeError when forward has not as many inputs as outputs
/// @throws DomainError when the algebraic loop I + k D_forward is singular
template <LinearSystem Forward>
[[nodiscard]] auto feedback(
    const Forward& forward,
    std::type_identity_t<typename Forward::Scalar> k = typename Forward::Scalar(1)) {
  using Traits = detail::SystemTraits<Forward>;
  using T = typename Forward::Scalar;
  const Index m = forward.inputs(), p = forward.outputs();
  detail::check_matrix("feedback", "D of the forward system", forward.D(), m, m);
  return feedback(
      forward, detail::system_like<0, Traits::outputs, Traits::inputs>(
                   forward, Eigen::Matrix<T, 0, 0>(), Eigen::Matrix<T, 0, Traits::outputs>(0, p),
                   Eigen::Matrix<T, Traits::inputs, 0>(m, 0),
                   (k * Eigen::Matrix<T, Traits::inputs, Traits::outputs>::Identity(m, p)).eval()));
}

/// Two systems in one, each with inputs and outputs of its own. Discrete systems are read before
/// the step, and so is the whole.
/// @throws DomainError when discrete systems have different steps
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto append(const First& first, const Second& second) {
  using One = detail::SystemTraits<First>;
  using Two = detail::SystemTraits<Second>;
  const Index m = first.inputs() + second.inputs(), p = first.outputs() + second.outputs();
  const detail::Wiring wiring{detail::RealMatrix(m, p), detail::RealMatrix::Identity(m, m),
                              detail::RealMatrix::Identity(p, p)};
  return detail::connect<detail::fixed_sum(One::inputs, Two::inputs),
                         detail::fixed_sum(One::outputs, Two::outputs)>("append", first, second,
                                                                        wiring);
}

/// G H as matrices multiply: first H, then G; series(H, G).
/// @throws ShapeError, DomainError as series does
template <LinearSystem Second, LinearSystem First>
[[nodiscard]] auto operator*(const Second& G, const First& H) {
  return detail::one_after_the_other("operator*", H, G);
}

/// k G: the outputs times k.
template <LinearSystem System>
[[nodiscard]] System operator*(std::type_identity_t<typename System::Scalar> k, const System& G) {
  using Traits = detail::SystemTraits<System>;
  return detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
      G, detail::state_matrix(G), detail::input_matrix(G), k * G.C(), k * G.D());
}
/// G k.
template <LinearSystem System>
[[nodiscard]] System operator*(const System& G, std::type_identity_t<typename System::Scalar> k) {
  return k * G;
}
/// −G.
template <LinearSystem System>
[[nodiscard]] System operator-(const System& G) {
  return typename System::Scalar(-1) * G;
}

/// G + H: parallel(G, H).
/// @throws ShapeError, DomainError as parallel does
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto operator+(const First& G, const Second& H) {
  return detail::side_by_side("operator+", G, H);
}
/// G − H.
/// @throws ShapeError, DomainError as parallel does
template <LinearSystem First, LinearSystem Second>
[[nodiscard]] auto operator-(const First& G, const Second& H) {
  return detail::side_by_side("operator-", G, -H);
}

}  // namespace ssm
