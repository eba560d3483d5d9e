#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/system/detail/units.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The system in the coordinates of kalman_decomposition, their basis and the sizes of its parts.
struct KalmanParts {
  Quadruple system;
  RealMatrix T;
  Index both = 0, only_reached = 0, only_seen = 0, neither = 0;
};
/// @throws DomainError when something is not finite or tolerance is not in [0, 1)
[[nodiscard]] KalmanParts kalman_parts(std::string_view function, Quadruple system,
                                       double tolerance);
/// The part of a system that is both reached and seen, which answers as the whole does.
[[nodiscard]] Quadruple minimal_part(std::string_view function, Quadruple system, double tolerance);

SSM_END_COMPILED

namespace ssm {

/// A system in coordinates that tell apart what inputs reach and outputs show.
template <LinearSystem System>
struct KalmanDecomposition {
  /// In the order of the four parts, states of part i first:
  ///
  ///   A = [A11  0  A13  0; A21 A22 A23 A24; 0 0 A33 0; 0 0 A43 A44],  B = [B1; B2; 0; 0],
  ///   C = [C1 0 C3 0].
  System system;
  /// T (states, states), x = T z with x the states that were given and z those of `system`.
  typename System::StateMatrix T;
  Index controllable_observable = 0;      ///< states of part 1, the minimal realization
  Index controllable_unobservable = 0;    ///< of part 2
  Index uncontrollable_observable = 0;    ///< of part 3
  Index uncontrollable_unobservable = 0;  ///< of part 4
};

/// Kalman's decomposition of a system into what inputs reach and outputs show, what they reach and
/// do not show, what they do not reach and show, and neither (Kalman 1963).
///
/// The dimensions are those of controllable_states and observable_states, and as they do they
/// depend on no units. Coordinates are orthogonal within the reached and the other states, in units
/// of the system's own. Computed in double for float as well.
///
/// @param system continuous or discrete
/// @param tolerance the relative error that the elements of the matrices have; rounding when 0
/// @throws DomainError when the system is not finite, or tolerance is not in [0, 1)
/// Cost: about 200 states³, and 100 states³ more for each state that is not in part 1.
template <LinearSystem System>
[[nodiscard]] KalmanDecomposition<System> kalman_decomposition(const System& system,
                                                               double tolerance = 0) {
  using Traits = detail::SystemTraits<System>;
  const detail::KalmanParts parts =
      detail::kalman_parts("kalman_decomposition", detail::Quadruple(system), tolerance);
  return {detail::system_like<Traits::states, Traits::inputs, Traits::outputs>(
              system, detail::to_eigen<typename System::StateMatrix>(parts.system.A),
              detail::to_eigen<typename System::InputMatrix>(parts.system.B),
              detail::to_eigen<typename System::OutputMatrix>(parts.system.C), system.D()),
          detail::to_eigen<typename System::StateMatrix>(parts.T),
          parts.both,
          parts.only_reached,
          parts.only_seen,
          parts.neither};
}

/// The system of fewest states that answers as the given one does: what inputs reach and outputs
/// show of it. A system without hidden states comes back as it is.
///
/// @param system continuous or discrete
/// @param tolerance the relative error that the elements of the matrices have; rounding when 0
/// @return a system of as many inputs and outputs, with the step of the given one
/// @throws DomainError when the system is not finite, or tolerance is not in [0, 1)
/// Cost: as of kalman_decomposition.
template <LinearSystem System>
[[nodiscard]] auto minimal_realization(const System& system, double tolerance = 0) {
  using Traits = detail::SystemTraits<System>;
  using Result = typename Traits::template Resized<Dynamic, Traits::inputs, Traits::outputs>;
  const detail::Quadruple part =
      detail::minimal_part("minimal_realization", detail::Quadruple(system), tolerance);
  return detail::system_like<Dynamic, Traits::inputs, Traits::outputs>(
      system, detail::to_eigen<typename Result::StateMatrix>(part.A),
      detail::to_eigen<typename Result::InputMatrix>(part.B),
      detail::to_eigen<typename Result::OutputMatrix>(part.C), system.D());
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/kalman_decomposition_impl.hpp"
#endif
