#pragma once

/// @defgroup core core: views, tensors, backends, errors
/// What every other room stands on: views of memory and tensors that own it, the backends, packed
/// sequences, parameters and fields of layers, errors, threads and elementary functions.

#include "ssm/core/backend.hpp"
#include "ssm/core/balance.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/copy.hpp"
#include "ssm/core/dual.hpp"
#include "ssm/core/eigen.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/flush_denormals.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/print.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"
