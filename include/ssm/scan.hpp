#pragma once

/// @defgroup scan scan: recurrences over time
/// The recurrence of sampled systems and the scans that compute it fast: linear, diagonal and
/// selective (S6).

#include "ssm/scan/decay_gradient.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"
#include "ssm/scan/dplr_scan.hpp"
#include "ssm/scan/linear_scan.hpp"
#include "ssm/scan/online_projection.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/scan/selective_scan.hpp"
#include "ssm/scan/selective_scan_reference.hpp"
#include "ssm/scan/selective_scan_step.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulate_delayed.hpp"
#include "ssm/scan/simulate_varying.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/scan/step_info.hpp"
