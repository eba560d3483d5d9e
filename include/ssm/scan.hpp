#pragma once

/// The room scan: recurrences and scans over time: linear, diagonal, selective.

#include "ssm/scan/decay_gradient.hpp"
#include "ssm/scan/diagonal_recurrence.hpp"
#include "ssm/scan/diagonal_scan.hpp"
#include "ssm/scan/linear_scan.hpp"
#include "ssm/scan/online_projection.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/scan/selective_scan.hpp"
#include "ssm/scan/selective_scan_reference.hpp"
#include "ssm/scan/selective_scan_step.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulate_varying.hpp"
