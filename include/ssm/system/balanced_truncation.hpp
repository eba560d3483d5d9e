#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/gramian.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// How many states a reduction keeps: all whose Hankel singular value is above `sigma`.
struct SigmaAbove {
  double sigma;  ///< in the unit of σ, which is that of the outputs by that of the inputs
};

namespace detail {

/// The order that a caller wants, checked against what there is.
inline Index order_of(std::string_view function, const Balancing& balancing, Index order) {
  if (order < 0 || order > balancing.order)
    throw_domain(function, "order", detail::number(order),
                 "0 to " + detail::number(balancing.order));
  return order;
}
inline Index order_of(std::string_view function, const Balancing& balancing, SigmaAbove above) {
  if (!(above.sigma >= 0))
    throw_domain(function, "sigma", detail::number(above.sigma), "at least 0");
  Index order = 0;
  while (order < balancing.order && balancing.sigma(order) > above.sigma) ++order;
  return order;
}

/// Makes up for what balancing has rounded, and for what carries nothing and was left out: the gain
/// at rest of `reduced` becomes that of `whole` by a change of D or, where that may be 0, by the
/// least one of C.
inline void keep_gain_at_rest(Time time, const Quadruple& whole, bool by_D, Quadruple& reduced) {
  const RealMatrix gain = gain_at_rest(whole, time);
  if (by_D) {
    reduced.D += gain - gain_at_rest(reduced, time);
    return;
  }
  const Index order = reduced.A.rows();
  RealMatrix change = -reduced.A;
  if (time == Time::discrete) change += RealMatrix::Identity(order, order);
  const RealMatrix X = DenseLu(std::move(change)).solve(reduced.B);  // states at rest
  const DenseLu gram(X.transpose() * X);
  for (int turn = 0; turn < 2; ++turn) {  // the second for the rounding of the first
    const RealMatrix missing = gain - gain_at_rest(reduced, time);
    const RealMatrix C = gram.solve(missing.transpose()).transpose() * X.transpose();
    if (!C.all_finite() || C.norm() > 1e-6 * reduced.C.norm()) return;
    reduced.C += C;
  }
}

/// The first `order` states of a balanced system, the others left out or, with `keep_dc`, at rest.
template <LinearSystem System, class Order>
auto reduce(std::string_view function, const System& system, Order wanted, bool keep_dc) {
  using Traits = SystemTraits<System>;
  using Result = typename Traits::template Resized<Dynamic, Traits::inputs, Traits::outputs>;
  Quadruple q(system);
  const Balancing balancing = balancing_of(function, Traits::time, q);
  const Index order = order_of(function, balancing, wanted), n = system.states();
  const Index kept = keep_dc ? balancing.order : order, rest = kept - order;
  const RealMatrix to = balancing.to.block(0, 0, n, kept);
  const RealMatrix from = balancing.from.block(0, 0, kept, n);
  q = {from * q.A * to, from * q.B, q.C * to, q.D};
  if (rest > 0) {  // 0 = A21 z1 + A22 z2 + B2 u, or z2 = … in discrete time
    RealMatrix still = q.A.block(order, order, rest, rest);
    if (Traits::time == Time::discrete) still -= RealMatrix::Identity(rest, rest);
    RealMatrix right(rest, order + q.B.cols());
    right.set_block(0, 0, q.A.block(order, 0, rest, order));
    right.set_block(0, order, q.B.block(order, 0, rest, q.B.cols()));
    const RealMatrix z = DenseLu(still).solve(right);
    const RealMatrix z_x = z.block(0, 0, rest, order), z_u = z.block(0, order, rest, q.B.cols());
    const RealMatrix A12 = q.A.block(0, order, order, rest);
    const RealMatrix C2 = q.C.block(0, order, q.C.rows(), rest);
    q = {q.A.block(0, 0, order, order) - A12 * z_x, q.B.block(0, 0, order, q.B.cols()) - A12 * z_u,
         q.C.block(0, 0, q.C.rows(), order) - C2 * z_x, q.D - C2 * z_u};
  }
  if (keep_dc) keep_gain_at_rest(Traits::time, Quadruple(system), rest > 0, q);
  return system_like<Dynamic, Traits::inputs, Traits::outputs>(
      system, to_eigen<typename Result::StateMatrix>(q.A),
      to_eigen<typename Result::InputMatrix>(q.B), to_eigen<typename Result::OutputMatrix>(q.C),
      to_eigen<typename Result::FeedthroughMatrix>(q.D));
}

}  // namespace detail

/// The Hankel singular values σ_1 ≥ σ_2 ≥ … of a stable system: the roots of the eigenvalues of its
/// two gramians' product. σ_i tells how much the i-th balanced state carries from input to output.
///
/// @return (states), the singular values of the product of the gramians' factors
/// @throws DomainError when the system is unstable or not finite
/// Cost: about 100 states³: one Schur form serves both gramians.
template <LinearSystem System>
[[nodiscard]] auto hankel_singular_values(const System& system) {
  typename System::StateVector sigma(system.states());
  if (system.states() == 0) return sigma;
  return detail::to_eigen<typename System::StateVector>(
      detail::balancing_of("hankel_singular_values", detail::SystemTraits<System>::time,
                           detail::Quadruple(system))
          .sigma);
}

/// The stable system of fewer states that balanced truncation leaves: in coordinates where both
/// gramians are diag(σ), the first `order` states. The frequency response G changes by no more than
///
///   |G(iω) − G_r(iω)| ≤ 2 (σ_{order+1} + … + σ_states)   at every ω
///
/// (Glover 1984, theorem 9.6), and the same on the unit circle in discrete time, whether the output
/// is read before the step or after. The square-root method of Tombs & Postlethwaite (1987) from
/// Hammarling's factors. Computed in double for float as well.
///
/// @param system continuous or discrete
/// @param order states to keep, at most those that carry anything: σ above rounding
/// @return a system of `order` states, balanced, with the step of the given one
/// @throws DomainError when the system is unstable or not finite (truncate_stable_part keeps its
///   unstable part), or order is negative or too large
/// Cost: about 100 states³.
template <LinearSystem System>
[[nodiscard]] auto balanced_truncation(const System& system, Index order) {
  return detail::reduce("balanced_truncation", system, order, false);
}
/// The same, of as many states as have a σ above a threshold.
/// @throws DomainError when the system is unstable or not finite, or the threshold is negative
template <LinearSystem System>
[[nodiscard]] auto balanced_truncation(const System& system, SigmaAbove above) {
  return detail::reduce("balanced_truncation", system, above, false);
}

/// The same with the dc gain kept: the balanced states beyond `order` are not dropped but taken to
/// be at rest, x_2' = 0, or x_{2,t+1} = x_{2,t} in discrete time, which changes A, B, C and D. The
/// bound of balanced_truncation holds; it errs at high frequencies instead of low ones (Liu &
/// Anderson 1989).
///
/// @param system continuous or discrete
/// @param order states to keep, at most those that carry anything: σ above rounding
/// @throws DomainError as balanced_truncation does
/// Cost: about 100 states³.
template <LinearSystem System>
[[nodiscard]] auto balanced_residualization(const System& system, Index order) {
  return detail::reduce("balanced_residualization", system, order, true);
}
/// The same, of as many states as have a σ above a threshold.
/// @throws DomainError when the system is unstable or not finite, or the threshold is negative
template <LinearSystem System>
[[nodiscard]] auto balanced_residualization(const System& system, SigmaAbove above) {
  return detail::reduce("balanced_residualization", system, above, true);
}

}  // namespace ssm
