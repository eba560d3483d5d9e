#pragma once

/// @defgroup estimate estimate: observers and Kalman filters
/// Estimating a state from inputs and outputs: observers, Kalman filters, smoothers.

#include "ssm/estimate/correlated_kalman.hpp"
#include "ssm/estimate/extended_kalman.hpp"
#include "ssm/estimate/fixed_lag_smoother.hpp"
#include "ssm/estimate/identify_arx.hpp"
#include "ssm/estimate/identify_subspace.hpp"
#include "ssm/estimate/innovation.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/kalman_history.hpp"
#include "ssm/estimate/noisy_system.hpp"
#include "ssm/estimate/observer.hpp"
#include "ssm/estimate/outlier_gate.hpp"
#include "ssm/estimate/smoother.hpp"
#include "ssm/estimate/square_root_kalman.hpp"
#include "ssm/estimate/steady_kalman.hpp"
#include "ssm/estimate/unscented_kalman.hpp"
