#pragma once

#include "ssm/core/detail/eigen_core.hpp"

// Second: what g++ 12 would warn of is in the first.
#include <Eigen/LU>
