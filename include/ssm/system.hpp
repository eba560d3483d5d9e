#pragma once

/// @defgroup system system: linear systems and their design
/// Linear systems x' = A x + B u, y = C x + D u: their forms, connections, analysis and design, and
/// the HiPPO matrices with which S4 starts.

#include "ssm/system/balanced_truncation.hpp"
#include "ssm/system/companion.hpp"
#include "ssm/system/controllability.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/descriptor_system.hpp"
#include "ssm/system/dplr.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/gramian.hpp"
#include "ssm/system/hippo.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/kalman_decomposition.hpp"
#include "ssm/system/linearize.hpp"
#include "ssm/system/lqr.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/margins.hpp"
#include "ssm/system/mass_spring_damper.hpp"
#include "ssm/system/norms.hpp"
#include "ssm/system/pole_placement.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/polynomial.hpp"
#include "ssm/system/print.hpp"
#include "ssm/system/riccati.hpp"
#include "ssm/system/siso_response.hpp"
#include "ssm/system/stable_split.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/sylvester.hpp"
#include "ssm/system/transfer_function.hpp"
#include "ssm/system/transfer_function_arithmetic.hpp"
