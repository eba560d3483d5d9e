#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/balanced_truncation.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The parts of stable_split.
struct SplitParts {
  Quadruple stable, unstable;
};
/// @throws DomainError when the system is not finite
[[nodiscard]] SplitParts split_parts(std::string_view function, Time time, Quadruple system);

SSM_END_COMPILED

namespace ssm {

/// Two systems whose outputs add up to those of one.
template <LinearSystem System>
struct StableSplit {
  /// Of as many states as there are in this part.
  using Part = typename detail::SystemTraits<System>::template Resized<
      Dynamic, detail::SystemTraits<System>::inputs, detail::SystemTraits<System>::outputs>;
  Part stable;    ///< all poles decay by more than rounding; it has the whole D
  Part unstable;  ///< all others, those at rest among them; D = 0
};

/// Splits a system into the sum of its stable and its unstable part, G = G_stable + G_unstable:
/// the Schur form ordered by stability, then the Sylvester equation that takes both apart. Computed
/// in double for float as well.
///
/// @param system continuous or discrete
/// @throws DomainError when the system is not finite
/// Cost: about 50 states³.
template <LinearSystem System>
[[nodiscard]] StableSplit<System> stable_split(const System& system) {
  using Traits = detail::SystemTraits<System>;
  using Part = typename StableSplit<System>::Part;
  const detail::SplitParts parts =
      detail::split_parts("stable_split", Traits::time, detail::Quadruple(system));
  const auto part = [&](const detail::Quadruple& q) {
    return detail::system_like<Dynamic, Traits::inputs, Traits::outputs>(
        system, detail::to_eigen<typename Part::StateMatrix>(q.A),
        detail::to_eigen<typename Part::InputMatrix>(q.B),
        detail::to_eigen<typename Part::OutputMatrix>(q.C),
        detail::to_eigen<typename Part::FeedthroughMatrix>(q.D));
  };
  return {part(parts.stable), part(parts.unstable)};
}

/// The system whose stable part is reduced by balanced_truncation, its unstable part being kept as
/// it is: the states of the former, then those of the latter.
///
/// @param system continuous or discrete
/// @param order states of the stable part to keep, or SigmaAbove
/// @throws DomainError when the system is not finite, or order is negative or too large
/// Cost: about 150 states³.
template <LinearSystem System, class Order>
[[nodiscard]] auto truncate_stable_part(const System& system, Order order) {
  const auto split = stable_split(system);
  return parallel(detail::reduce("truncate_stable_part", split.stable, order, false),
                  split.unstable);
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/stable_split_impl.hpp"
#endif
