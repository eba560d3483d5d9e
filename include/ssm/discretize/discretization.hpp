#pragma once

namespace ssm {

/// How a continuous system becomes a discrete one; each has a function of its name.
enum class Discretization {
  zero_order_hold,
  bilinear,
  forward_euler,
  backward_euler,
  first_order_hold,
  impulse_invariant,
  tustin
};

/// True for the methods that keep C and D. The others change them with Δ, or the meaning of the
/// state: they are for a dense system at one Δ.
[[nodiscard]] constexpr bool keeps_output(Discretization method) noexcept {
  return method != Discretization::first_order_hold &&
         method != Discretization::impulse_invariant && method != Discretization::tustin;
}

}  // namespace ssm
