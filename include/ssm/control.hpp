#pragma once

/// The control half of the library: systems and their design, discretization, simulation and
/// estimation.

#include "ssm/discretize.hpp"
#include "ssm/estimate.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulate_delayed.hpp"
#include "ssm/scan/simulate_varying.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/scan/step_info.hpp"
#include "ssm/system.hpp"
