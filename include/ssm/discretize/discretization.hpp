#pragma once

#include <array>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"

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

/// The methods by name.
constexpr std::array<Named<Discretization>, 7> names(Discretization) noexcept {
  return {{{Discretization::zero_order_hold, "zero_order_hold"},
           {Discretization::bilinear, "bilinear"},
           {Discretization::forward_euler, "forward_euler"},
           {Discretization::backward_euler, "backward_euler"},
           {Discretization::first_order_hold, "first_order_hold"},
           {Discretization::impulse_invariant, "impulse_invariant"},
           {Discretization::tustin, "tustin"}}};
}

/// True for the methods that keep C and D. The others change them with Δ, or the meaning of the
/// state: they are for a dense system at one Δ.
[[nodiscard]] constexpr bool keeps_output(Discretization method) noexcept {
  return method != Discretization::first_order_hold &&
         method != Discretization::impulse_invariant && method != Discretization::tustin;
}

namespace detail {

inline void check_keeps_output(std::string_view function, Discretization method) {
  if (!keeps_output(method))
    throw_domain(function, "method", "one that changes C or D", "one that keeps them");
}

}  // namespace detail
}  // namespace ssm
