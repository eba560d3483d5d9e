#pragma once

/// The whole library but for files (ssm/io.hpp) and devices (ssm/cuda.hpp).

#include "ssm/conv.hpp"
#include "ssm/core.hpp"
#include "ssm/discretize.hpp"
#include "ssm/estimate.hpp"
#include "ssm/layers.hpp"
#include "ssm/models.hpp"
#include "ssm/scan.hpp"
#include "ssm/system.hpp"
#include "ssm/train.hpp"
#include "ssm/version.hpp"
