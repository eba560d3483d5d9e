#pragma once

/// @defgroup discretize discretize: from continuous to sampled time
/// Zero-order hold and the other ways from a continuous system to a sampled one, and back.

#include "ssm/discretize/bilinear_euler.hpp"
#include "ssm/discretize/continuous_horizon_lqr.hpp"
#include "ssm/discretize/delayed_hold.hpp"
#include "ssm/discretize/discretization.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/dplr_step.hpp"
#include "ssm/discretize/first_order_hold.hpp"
#include "ssm/discretize/hold.hpp"
#include "ssm/discretize/inverse.hpp"
#include "ssm/discretize/matched.hpp"
#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"
#include "ssm/discretize/mode_slopes.hpp"
#include "ssm/discretize/noise_covariance.hpp"
#include "ssm/discretize/sampled_lqr.hpp"
#include "ssm/discretize/tustin.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
