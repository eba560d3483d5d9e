#pragma once

/// The room core: views, tensors, backends, errors, threads.

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
#include "ssm/core/phi.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"
