#pragma once

/// The room estimate: observers, Kalman filters, smoothers.

#include "ssm/estimate/extended_kalman.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/observer.hpp"
#include "ssm/estimate/smoother.hpp"
#include "ssm/estimate/steady_kalman.hpp"
