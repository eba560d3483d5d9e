#pragma once

/// @defgroup estimate estimate: observers and Kalman filters
/// Estimating a state from inputs and outputs: observers, Kalman filters, smoothers.

#include "ssm/estimate/extended_kalman.hpp"
#include "ssm/estimate/identify_arx.hpp"
#include "ssm/estimate/identify_subspace.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/observer.hpp"
#include "ssm/estimate/smoother.hpp"
#include "ssm/estimate/steady_kalman.hpp"
