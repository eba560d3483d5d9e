#pragma once

/// @defgroup cuda cuda: the same operations on a GPU
/// The operations over device memory, declared without any CUDA header. They are defined in the
/// compiled library ssm::cuda. What runs layers and models there includes them too, and is included
/// by itself: ssm/cuda/models.hpp, ssm/cuda/optimizer.hpp and ssm/cuda/sample_tokens.hpp.

#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/causal_conv.hpp"
#include "ssm/cuda/cross_entropy.hpp"
#include "ssm/cuda/diagonal_scan.hpp"
#include "ssm/cuda/elementwise.hpp"
#include "ssm/cuda/embedding.hpp"
#include "ssm/cuda/graph.hpp"
#include "ssm/cuda/linear.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/cuda/mean_over_time.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/cuda/mode_operations.hpp"
#include "ssm/cuda/rms_norm.hpp"
#include "ssm/cuda/s4d_kernel.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "ssm/cuda/selective_scan_step.hpp"
