#pragma once

#include <utility>

#include "ssm/system/controllability.hpp"
#include "ssm/system/detail/staircase.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Index reachable_dimension(std::string_view function, RealMatrix A, RealMatrix B,
                                     double tolerance) {
  const double error = error_of_data(function, tolerance);
  Quadruple system = Quadruple::of(std::move(A), std::move(B));
  if (!system.all_finite()) throw_domain(function, "A or B", "not finite", "finite");
  static_cast<void>(to_own_units(system));
  return staircase(Uncertain(std::move(system.A), error), Uncertain(std::move(system.B), error))
      .reached;
}

SSM_END_COMPILED
