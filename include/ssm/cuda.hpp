#pragma once

/// The room cuda: the operations over device memory (defined in ssm::cuda).

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/causal_conv.hpp"
#include "ssm/cuda/diagonal_scan.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/cuda/s4d_kernel.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "ssm/cuda/selective_scan_step.hpp"
